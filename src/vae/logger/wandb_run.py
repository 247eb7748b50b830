"""One W&B run for each run."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from vae.checks import ConfigError
from vae.logger.run_logger import RunLogger
from vae.progress import task

if TYPE_CHECKING:
    from wandb import Run

LAUNCH_INPUTS = "wandb.sdk.launch.inputs.internal"


class WandbRun(WandbLogger, RunLogger):
    """Lightning's WandbLogger, without the option of wandb.init that W&B has since dropped and warns of.

    Args:
        **options: those of WandbLogger and of `wandb.init`.
    """

    def __init__(self, **options: Any):
        # W&B takes no DictConfig for a dictionary: `settings` would be ignored without a word.
        plain: dict[str, Any] = {
            name: OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
            for name, value in options.items()
        }
        # The members of a stack train in one process, and each has a W&B run of its own.
        super().__init__(**{"reinit": "create_new", **plain})
        self._wandb_init.pop("anonymous", None)

    @property
    @rank_zero_experiment
    def experiment(self) -> "Run":
        """The W&B run, which begins when it is first asked for.

        Raises:
            ConfigError: W&B cannot begin it, as when its server does not answer.
        """
        if self._experiment is not None:
            return super().experiment
        from wandb.errors import Error

        _give_a_home()
        mode, server = self._wandb_init.get("mode"), self._server()
        try:
            with _unless_launched(), task(f"waiting for W&B at {server}" if mode == "online" else "starting W&B"):
                return super().experiment
        except Error as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise ConfigError(
                f"logger.wandb.mode={mode}: must be offline where {server} cannot be used ({why})"
            ) from error

    def _server(self) -> str:
        """Return where W&B sends a run that is online."""
        settings = self._wandb_init.get("settings") or {}
        typed = settings.get("base_url") if isinstance(settings, dict) else None
        return typed or os.environ.get("WANDB_BASE_URL") or "https://api.wandb.ai"

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Log the config as nested plain values, by which W&B can filter and group."""
        plain = OmegaConf.to_container(OmegaConf.create(params), resolve=True)
        super().log_hyperparams(plain)  # type: ignore[arg-type]

    @rank_zero_only
    def log_picture(self, name: str, file: Path, step: int) -> None:
        """Show a PNG as of a step."""
        self.log_image(name, [str(file)], step=step)

    @rank_zero_only
    def add_evaluation(self, numbers: Mapping[str, float]) -> None:
        """Add numbers to the run's summary.

        An offline run gets another folder with the same id below its wandb/. `wandb sync` joins the two.
        """
        self.experiment.summary.update(dict(numbers))

    @rank_zero_only
    def finish(self) -> None:
        """End the W&B run."""
        self.experiment.finish()


def _give_a_home() -> None:
    """Have W&B keep its cache and settings in a temporary folder where the user has no home to write to.

    It would fill stderr with its own log otherwise (0.31), or warn that it cannot read its settings.
    """
    for name, usual in (("WANDB_CACHE_DIR", "~/.cache/wandb"), ("WANDB_CONFIG_DIR", "~/.config/wandb")):
        try:
            os.makedirs(os.path.expanduser(os.environ.get(name, usual)), exist_ok=True)
        except OSError:
            os.environ[name] = folder = tempfile.mkdtemp(prefix="wandb-")
            atexit.register(shutil.rmtree, folder, ignore_errors=True)


@contextmanager
def _unless_launched() -> Iterator[None]:
    """Keep a run that begins from looking for inputs of W&B's launcher, if none can have been given.

    To look for them W&B (0.31) imports its launcher and its public API, which takes a second; whoever gave
    some has imported them.
    """
    from wandb.sdk.wandb_run import Run

    apply = Run._detect_and_apply_job_inputs
    if LAUNCH_INPUTS not in sys.modules:
        Run._detect_and_apply_job_inputs = lambda self: None  # type: ignore[method-assign]
    try:
        yield
    finally:
        Run._detect_and_apply_job_inputs = apply  # type: ignore[method-assign]
