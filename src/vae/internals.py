"""Every private part of another library that we touch, each in a function that says what it stands for.

A library may change these without notice, so that each has a test in tests/test_internals.py that names it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # Nothing heavy is imported here, so that commands that need no torch start quickly.
    from lightning import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial
    from torch import Tensor
    from torch.optim import Optimizer


def count_steps(trainer: "Trainer", optimizer: "Optimizer", steps: int) -> None:
    """Lightning: count steps in `trainer.global_step`, of a module that steps its optimiser itself.

    torch: let learning-rate schedules know that there were steps, of which they otherwise warn.
    """
    optimizer._opt_called = True  # type: ignore[attr-defined]
    progress = trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress
    for tracker in (progress.total, progress.current):
        tracker.ready += steps
        tracker.completed += steps


def steps_in_checkpoint(checkpoint: dict[str, Any]) -> tuple[dict[str, int], dict[str, int]]:
    """Lightning: a checkpoint's count of steps for a module that steps by itself, and for others."""
    loop = checkpoint["loops"]["fit_loop"]
    own = loop["epoch_loop.manual_optimization.optim_step_progress"]
    lightnings = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
    return own["total"], lightnings["total"]


def checkpoints_between_epochs(callback: "ModelCheckpoint") -> bool:
    """Lightning: whether a ModelCheckpoint saves after some steps or some time, and not only at an epoch's end."""
    return bool(callback._every_n_train_steps or callback._train_time_interval)


def copy_all(places: "Sequence[Tensor]", values: "Sequence[Tensor]") -> None:
    """torch: copy each of the values into its place, on a GPU by few launches for all of them."""
    import torch

    torch._foreach_copy_(list(places), list(values))


def optuna_trial(study: "Study", frozen: "FrozenTrial") -> "Trial":
    """Optuna: a trial that another process has begun, to report to; it gives out only those of `ask`."""
    from optuna.trial import Trial

    return Trial(study, frozen._trial_id)
