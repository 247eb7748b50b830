"""A run that diverges ends with a reason, or leaves out the steps that would spoil it."""

import math
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from torch.nn.utils import get_total_norm
from torch.optim import Optimizer

from vae.checks import check_choice, check_int
from vae.training.divergence import Step, describe


class Finite(Callback):
    """What happens when a loss, a gradient, a weight or the bound is no finite number.

    With `stop` the run ends (`VAEModule` looks at the losses where it logs their means, so that no step waits).
    With `skip` the gradients of each step are looked at before the optimiser is, which costs a norm a step, and a
    step whose gradients are not finite changes nothing: neither weights nor the optimiser's state nor the means.
    Either way no checkpoint is written of weights that are not finite.

    Args:
        monitor: the logged number of the validation images that must be finite.
        on_nan: `stop` or `skip`.
        limit: with `skip`, how many steps may be left out before the run ends after all.

    Raises:
        FloatingPointError: the training has diverged.
    """

    def __init__(self, monitor: str = "val/elbo", on_nan: str = "stop", limit: int = 10):
        self.monitor = monitor
        self.on_nan = check_choice("on_nan", on_nan, ("stop", "skip"))
        self.limit = check_int("callback.finite.limit", limit, minimum=0)
        self.skipped = 0

    def state_dict(self) -> dict[str, int]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self.skipped = state_dict["skipped"]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        if self.on_nan == "stop":
            return
        gradients = [p.grad for p in pl_module.parameters() if p.grad is not None]
        # Among ranks the gradients are averaged, so that all leave out the same steps.
        if get_total_norm(gradients).isfinite():
            return
        self.skipped += 1
        if self.skipped > self.limit:
            steps: list[Step] = pl_module.pending  # type: ignore[assignment]
            raise FloatingPointError(
                f"{describe(pl_module, steps, trainer.global_step + 1)}; on_nan=skip: {self.limit} steps were"
                " left out before (callback.finite.limit), and this is one more"
            )
        optimizer.zero_grad(set_to_none=True)
        pl_module.pending.pop()  # type: ignore[operator, union-attr]

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
