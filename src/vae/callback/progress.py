"""How a run is going, on the terminal."""

import sys
import time
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import TQDMProgressBar


class Progress(TQDMProgressBar):
    """A bar with the latest training and validation ELBO; one line per epoch where stdout is no terminal.

    The bar looks at the numbers only when it redraws, every `refresh_rate` steps, so that no step waits.

    Args:
        refresh_rate: steps between two redraws.
    """

    def __init__(self, refresh_rate: int = 50):
        self.is_terminal = sys.stdout.isatty()
        super().__init__(refresh_rate=refresh_rate if self.is_terminal else 0)
        self._epoch_started = 0.0

    def get_metrics(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        latest: dict[str, float] = pl_module.latest  # type: ignore[assignment]
        names = {"elbo": "train/elbo", "val_elbo": "val/elbo"}
        return {short: f"{latest[name]:.2f}" for short, name in names.items() if name in latest}

    def on_train_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_start(trainer, *args)
        # Steps may be taken several at once, and the bar is redrawn at a multiple of its rate.
        group = _steps_at_once(trainer)
        self._refresh_rate = -(-self._refresh_rate // group) * group

    @property
    def total_train_batches(self) -> int | float:
        return _steps(self.trainer, super().total_train_batches)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        super().on_train_batch_end(trainer, pl_module, outputs, batch, int(_steps(trainer, batch_idx + 1)) - 1)

    def on_train_epoch_start(self, trainer: Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self._epoch_started = time.monotonic()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        if not self.is_terminal and trainer.is_global_zero:
            numbers = " ".join(f"{name} {value}" for name, value in self.get_metrics(trainer, pl_module).items())
            seconds = time.monotonic() - self._epoch_started
            print(
                f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs} {numbers} ({seconds:.1f} s)",
                flush=True,
            )


def _steps_at_once(trainer: Trainer) -> int:
    return trainer.datamodule.steps_at_once  # type: ignore[attr-defined]


def _steps(trainer: Trainer, batches: int | float) -> int | float:
    """The optimiser steps of an epoch's first so many of what Lightning counts as batches."""
    group = _steps_at_once(trainer)
    if group == 1:
        return batches
    return min(batches * group, len(trainer.train_dataloader.batch_sampler.sampler))  # type: ignore[union-attr]
