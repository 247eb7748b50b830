"""A callback that writes run.html while a run trains, so that an open browser shows the progress."""

import sys
import time
import webbrowser

from lightning import Callback, LightningModule, Trainer

from vae.checks import check_bool, check_int
from vae.command.interruption import Interrupted
from vae.page.run_page import keep_run_page
from vae.run.directory import RunDirectory

SECONDS = 10
"""The minimum number of seconds between two writings of the page during training.

Nobody looks more often.
"""
SHARE = 0.05
"""The largest share of a process's time that pages may take in training, all members of a stack together."""


class RunPage(Callback):
    """A callback that writes run.html when training begins and after epochs.

    train.py writes the page once more, with the final numbers.

    Args:
        run: the run's directory.
        every_n_epochs: the number of epochs between two writings, which are at least ten seconds apart; 0 to write
            only at the end.
        open: whether to show the page in a browser when training begins.
    """

    _free_at = 0.0
    """When one of this process may be written again."""

    def __init__(self, run: str, every_n_epochs: int = 1, open: bool = False):
        self.run = RunDirectory(run)
        self.every_n_epochs = check_int("callback.page.every_n_epochs", every_n_epochs, minimum=0)
        self.open = check_bool("open", open)
        self._tried = 0.0
        self._fails = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not (self.every_n_epochs or self.open):
            return
        self._write(trainer, "training", trainer.current_epoch)
        page = self.run.path / "run.html"
        is_shown = self.open and self._tried and not self._fails
        if is_shown and not webbrowser.open(page.absolute().as_uri()):
            print(f"open=true: no browser was found; the page is {page}", file=sys.stderr)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        due = self.every_n_epochs and epoch % self.every_n_epochs == 0
        now = time.monotonic()
        if trainer.is_global_zero and due and now - self._tried > SECONDS and now > RunPage._free_at:
            self._write(trainer, "training", epoch)
            ended = time.monotonic()
            RunPage._free_at = ended + (ended - now) / SHARE

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.is_global_zero and self._tried:
            if isinstance(exception, Interrupted):
                exception.is_known = True
            failed = isinstance(exception, Exception)
            reason = " ".join(str(exception).split()) or type(exception).__name__
            self._write(trainer, "failed" if failed else "interrupted", trainer.current_epoch, reason)

    def _write(self, trainer: Trainer, state: str, epoch: int, reason: str = "") -> None:
        if not self.run.config_file.is_file():
            return  # a trainer built from Python saves no config
        for logger in trainer.loggers:
            logger.save()  # so that metrics.csv is there
        between = time.monotonic() - self._tried if self._tried else SECONDS
        self._tried = time.monotonic()
        self._fails = not keep_run_page(self.run, state, epoch, reason, between, quiet=self._fails)
