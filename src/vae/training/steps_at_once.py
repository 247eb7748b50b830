"""Several optimiser steps between two visits to Lightning's loop.

A visit costs about as much as the step of a small model: some 65 hooks are looked for. So where nobody
listens between the steps, a group of them is taken at a time, each exactly as it would be by itself.
"""

from collections.abc import Iterator
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

from vae.checks import ConfigError, check_int
from vae.data import Batch, BatchGroup
from vae.internals import checkpoints_between_epochs, count_steps, skip_next_validation, steps_in_checkpoint
from vae.training.module import VAEModule

MOST_STEPS = {"cpu": 16, "cuda": 1024}
MOST_PIXELS = {"cpu": 2**21, "cuda": 2**26}
"""Of a group, by where it is trained. Beyond, a step takes so long that a visit does not matter, and the images of
a group may matter to memory."""
BETWEEN_STEPS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
)
"""Hooks that are called once a group, or not at all in a group."""
PLAIN = {
    "gradient_clip_val": ("None", "0", "0.0"),
    "accumulate_grad_batches": ("1",),
    "limit_train_batches": ("1.0",),
    "overfit_batches": ("0.0",),
    "val_check_interval": ("1.0",),
}
"""The trainer's options that count or change steps, as they are where they do not (1 batch is one, 1.0 is all)."""


class StepsAtOnce(VAEModule):
    """A VAEModule whose batches come in groups, and which takes a step for each batch of a group.

    It does what Lightning's loop does with each batch, without looking for hooks in between. Its arguments are
    those of `VAEModule`.
    """

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.automatic_optimization = False

    def training_step(self, batch: Batch | BatchGroup, batch_idx: int) -> None:  # type: ignore[override]
        """Take a step for each batch of a group."""
        assert isinstance(batch, BatchGroup)
        optimizer = self.optimizers().optimizer  # type: ignore[union-attr]
        last = len(batch.keys) - 1
        for i, one in enumerate(batch.batches()):
            if self.trainer.global_step == self.trainer.max_steps:
                self.cut()
                return
            loss = super().training_step(self.data.ready(one), batch_idx * self.data.steps_at_once + i)
            optimizer.zero_grad()
            loss.backward()  # as manual_backward does at full precision on one device, where alone groups are
            self.on_before_optimizer_step(optimizer)
            optimizer.step()
            if self.own_step is not None:
                self.own_step.take(one.key)
            count_steps(self.trainer, optimizer, 1)
            self.log_means_if_due(self.trainer.is_last_batch and i == last)
        if self.trainer.is_last_batch and self.scheduler is not None:
            self.lr_schedulers().step()  # type: ignore[union-attr]

    def cut(self) -> None:
        """End the training within a group, as it would end between two steps: the epoch is not whole."""
        self.is_cut = True
        skip_next_validation(self.trainer)

    def on_train_batch_end(self, outputs: object, batch: object, batch_idx: int) -> None:
        """Do nothing: means have been logged between the steps."""

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the steps where Lightning counts those of a module that takes one at a time."""
        super().on_save_checkpoint(checkpoint)
        own, lightnings = steps_in_checkpoint(checkpoint)
        lightnings |= own

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on counting from there."""
        super().on_load_checkpoint(checkpoint)
        own, lightnings = steps_in_checkpoint(checkpoint)
        own |= lightnings


def steps_at_once(trainer: Trainer, asked: int | str, pixels: int, clipped: bool = False) -> int:
    """Return the number of steps in a group.

    Args:
        trainer: that will train.
        asked: `auto`, or a number.
        pixels: of a batch, over all channels.
        clipped: whether gradients are clipped without Lightning.

    Raises:
        ConfigError: more than one was asked for, and something must run between the steps.
    """
    obstacle = next(obstacles(trainer, clipped), None)
    if asked == "auto":
        kind = "cuda" if trainer.strategy.root_device.type == "cuda" else "cpu"
        return 1 if obstacle else max(1, min(MOST_STEPS[kind], MOST_PIXELS[kind] // pixels))
    if not isinstance(asked, int):
        raise ConfigError(f"steps_at_once={asked}: must be auto or a whole number")
    if check_int("steps_at_once", asked) > 1 and obstacle:
        raise ConfigError(f"steps_at_once={asked}: must be 1 or auto with {obstacle}")
    return asked


def obstacles(trainer: Trainer, clipped: bool = False) -> Iterator[str]:
    """Yield what needs Lightning's loop at every step.

    Args:
        trainer: that will train.
        clipped: whether gradients are clipped without Lightning.
    """
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        yield "several devices, whose gradients are averaged within the loop's step"
    if type(trainer.precision_plugin) is not Precision:
        yield f"trainer.precision={trainer.precision}, whose losses are scaled within the loop's step"
    if not isinstance(trainer.profiler, PassThroughProfiler):  # type: ignore[attr-defined]
        yield "a trainer.profiler, which measures the loop's step"
    for key, plain in PLAIN.items():
        if repr(getattr(trainer, key)) not in plain and not (clipped and key == "gradient_clip_val"):
            yield f"trainer.{key}={getattr(trainer, key)}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if _listens(callback):
            yield f"the callback {type(callback).__name__}, which runs between the steps"


def _listens(callback: Callback) -> bool:
    if isinstance(callback, ModelCheckpoint):
        return checkpoints_between_epochs(callback)
    return any(is_overridden(hook, callback, parent=Callback) for hook in BETWEEN_STEPS)
