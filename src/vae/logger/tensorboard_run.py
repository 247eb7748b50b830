"""`logger=tensorboard`: curves, pictures and the config as event files in the run's directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf

from vae.checks import ConfigError
from vae.logger.run_logger import RunLogger


class TensorBoardRun(TensorBoardLogger, RunLogger):
    """Lightning's TensorBoardLogger in one folder, whose runs TensorBoard finds by their directories.

    Args:
        folder: where the event files go. A resumed run adds a file to it.

    Raises:
        ConfigError: tensorboard is not installed.
    """

    def __init__(self, folder: str):
        try:
            super().__init__(folder, name="", version="", default_hp_metric=False)
        except ModuleNotFoundError as error:
            raise ConfigError("logger=tensorboard: is not installed; pip install -e '.[tensorboard]'") from error

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Log the config as text."""
        text = OmegaConf.to_yaml(OmegaConf.create(params), resolve=True)
        self.experiment.add_text("config", "\n".join(f"    {line}" for line in text.splitlines()))

    @rank_zero_only
    def log_picture(self, name: str, file: Path, step: int) -> None:
        """Show a PNG as of a step."""
        import numpy as np
        from PIL import Image

        with Image.open(file) as image:
            self.experiment.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    @rank_zero_only
    def add_evaluation(self, numbers: Mapping[str, float]) -> None:
        """Add numbers, each a curve of one point."""
        self.log_metrics(dict(numbers), 0)

    @rank_zero_only
    def save(self) -> None:
        """Bring what was logged to the disk. (Lightning's would write the config once more.)"""
        self.experiment.flush()

    @rank_zero_only
    def finish(self) -> None:
        """Close the file."""
        self.finalize("success")
