"""A callback that stops a diverged run with a reason, before its checkpoints are overwritten."""

import math
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer


class Finite(Callback):
    """A callback that ends a run whose bound or weights are not finite. `VAEModule` checks losses and gradients.

    Args:
        monitor: the logged number of the validation images that must be finite.

    Raises:
        FloatingPointError: the training has diverged.
    """

    def __init__(self, monitor: str = "val/elbo"):
        self.monitor = monitor

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        value = float(trainer.callback_metrics.get(self.monitor, 0.0))
        if not math.isfinite(value):
            epoch = trainer.current_epoch + 1
            raise FloatingPointError(f"{self.monitor} is {value} after epoch {epoch}: the training has diverged")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        weights = {name for name, _ in pl_module.named_parameters()}
        for name, value in checkpoint["state_dict"].items():
            if name in weights and not torch.isfinite(value).all():
                raise FloatingPointError(
                    f"{name} is not finite after step {trainer.global_step}: the training has diverged"
                )
