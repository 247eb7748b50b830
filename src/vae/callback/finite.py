"""A run that has diverged ends at once, with a reason, instead of using up its time."""

import math

from lightning import Callback, LightningModule, Trainer


class StopIfNotFinite(Callback):
    """Raises once the bound on the validation images is no finite number, before a checkpoint is written.

    Args:
        monitor: the logged number to look at.

    Raises:
        FloatingPointError: it is infinite or not a number.
    """

    def __init__(self, monitor: str = "val/elbo"):
        self.monitor = monitor

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = float(trainer.callback_metrics.get(self.monitor, 0.0))
        if not math.isfinite(value):
            epoch = trainer.current_epoch + 1
            raise FloatingPointError(f"{self.monitor} is {value} after epoch {epoch}: the training has diverged")
