"""How many optimiser steps are taken between two visits to Lightning's loop.

A visit costs about as much as the step of a small model: some 65 hooks are looked for. So where nobody
listens between the steps, a group of them is taken at a time, each exactly as it would be by itself.
"""

from collections.abc import Callable, Iterator
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.plugins import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.utilities.model_helpers import is_overridden

from vae.callback.finite import Finite
from vae.callback.progress import Progress
from vae.callback.watch import Watch
from vae.checks import ConfigError, check_int

MOST_STEPS = 16
MOST_PIXELS = 2**21
"""Of a group: beyond, a step takes so long that a visit does not matter, and its images may matter to memory."""
BETWEEN_STEPS = (
    "on_train_batch_start",
    "on_train_batch_end",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
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


def steps_at_once(trainer: Trainer, asked: int | str, pixels: int) -> int:
    """The number of steps in a group.

    Args:
        trainer: that trains, its callbacks attached.
        asked: `auto`, or a number.
        pixels: of a batch, over all channels.

    Raises:
        ConfigError: more than one was asked for, and something must run between the steps.
    """
    obstacle = next(_obstacles(trainer), None)
    if asked == "auto":
        return 1 if obstacle else max(1, min(MOST_STEPS, MOST_PIXELS // pixels))
    if not isinstance(asked, int):
        raise ConfigError(f"steps_at_once={asked}: must be auto or a whole number")
    if check_int("steps_at_once", asked) > 1 and obstacle:
        raise ConfigError(f"steps_at_once={asked}: must be 1 or auto with {obstacle}")
    return asked


def _obstacles(trainer: Trainer) -> Iterator[str]:
    """What needs Lightning's loop at every step."""
    if not isinstance(trainer.strategy, SingleDeviceStrategy):
        yield "several devices, whose gradients are averaged within the loop's step"
    if type(trainer.precision_plugin) is not Precision:
        yield f"trainer.precision={trainer.precision}, whose casts are kept for one step"
    for key, plain in PLAIN.items():
        if repr(getattr(trainer, key)) not in plain:
            yield f"trainer.{key}={getattr(trainer, key)}"
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if _listens(callback):
            yield f"the callback {type(callback).__name__}, which runs between the steps"


def _listens(callback: Callback) -> bool:
    if isinstance(callback, Progress):
        return False
    if isinstance(callback, ModelCheckpoint):
        return bool(callback._every_n_train_steps or callback._train_time_interval)
    return any(is_overridden(hook, callback, parent=Callback) for hook in BETWEEN_STEPS)


def optimizer_step(module: LightningModule) -> Callable[[], None]:
    """What takes an optimiser step within a group.

    Lightning's own looks for hooks in every callback, each time. Where only callbacks of this package listen
    before a step, they are called by their names, and the step is counted where Lightning counts it.
    """
    trainer, wrapped = module.trainer, module.optimizers()
    assert isinstance(wrapped, LightningOptimizer)
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    listening = [c for c in callbacks if is_overridden("on_before_optimizer_step", c, parent=Callback)]
    if not all(type(callback) in (Finite, Watch) for callback in listening) or not _is_plain(module):
        return wrapped.step
    optimizer, counted = wrapped.optimizer, trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress

    def step() -> None:
        counted.increment_ready()
        for callback in listening:
            callback.on_before_optimizer_step(trainer, module, optimizer)
        optimizer.step()
        counted.increment_completed()

    return step


def _is_plain(module: LightningModule) -> bool:
    """Whether nothing else is to happen at a step: neither hooks of the module's own nor a profiler."""
    hook = is_overridden("on_before_optimizer_step", module, parent=LightningModule)
    profiler = module.trainer.profiler  # type: ignore[attr-defined]
    return not hook and isinstance(profiler, PassThroughProfiler)


def count_steps(checkpoint: dict[str, Any]) -> None:
    """Have a checkpoint's steps counted in either way of training, so that a run may go on in the other.

    Lightning counts them apart for its own optimisation and for a module's, and believes the way that is used.
    """
    loop = checkpoint["loops"]["fit_loop"]
    own = loop["epoch_loop.manual_optimization.optim_step_progress"]
    lightnings = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    done = {"ready": checkpoint["global_step"], "completed": checkpoint["global_step"]}
    for progress in (own, lightnings):
        progress["total"] |= done
