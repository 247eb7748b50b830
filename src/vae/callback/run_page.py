"""A callback that writes run.html while a run trains, so that an open browser shows the progress."""

import sys
import time
import webbrowser

from lightning import Callback, LightningModule, Trainer

from vae.checks import check_bool, check_int
from vae.page.run_page import write_run_page
from vae.run.directory import RunDirectory

SECONDS = 10
"""The minimum number of seconds between two writings of the page during training.

Each writing takes a tenth of a second, and nobody looks more often.
"""


class RunPage(Callback):
    """A callback that writes run.html when training begins and after epochs.

    train.py writes the page once more, with the final numbers.

    Args:
        run: the run's directory.
        every_n_epochs: the number of epochs between two writings, which are at least ten seconds apart; 0 to write
            only at the end.
        open: whether to show the page in a browser when training begins.
    """

    def __init__(self, run: str, every_n_epochs: int = 1, open: bool = False):
        self.run = RunDirectory(run)
        self.every_n_epochs = check_int("callback.page.every_n_epochs", every_n_epochs, minimum=0)
        self.open = check_bool("open", open)
        self._written = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero or not (self.every_n_epochs or self.open):
            return
        self._write(trainer, "training", trainer.current_epoch)
        if self.open and self._written and not webbrowser.open((self.run.path / "run.html").absolute().as_uri()):
            print(f"open=true: no browser was found; the page is {self.run.path / 'run.html'}", file=sys.stderr)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        due = self.every_n_epochs and epoch % self.every_n_epochs == 0
        if trainer.is_global_zero and due and time.monotonic() - self._written > SECONDS:
            self._write(trainer, "training", epoch)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if trainer.is_global_zero and self._written:
            failed = isinstance(exception, Exception)
            reason = " ".join(str(exception).split()) or type(exception).__name__
            self._write(trainer, "failed" if failed else "interrupted", trainer.current_epoch, reason)

    def _write(self, trainer: Trainer, state: str, epoch: int, reason: str = "") -> None:
        if not self.run.config_file.is_file():
            return  # a trainer built from Python saves no config
        for logger in trainer.loggers:
            logger.save()  # so that metrics.csv is there
        between = time.monotonic() - self._written if self._written else SECONDS
        self._written = time.monotonic()
        try:
            write_run_page(self.run, state, epoch, reason, between)
        except OSError as error:
            # A page that cannot be written must not stop the training.
            print(f"warning: {self.run.path / 'run.html'}: cannot be written ({error.strerror})", file=sys.stderr)
