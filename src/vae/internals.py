"""Every private part of another library that we touch, each in a function that says what it stands for.

A library may change these without notice, so that each has a test in tests/test_internals.py that names it.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # Nothing heavy is imported here, so that commands that need no torch start quickly.
    from lightning import Trainer
    from lightning.pytorch.callbacks import ModelCheckpoint
    from omegaconf import DictConfig
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial
    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler


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


def resume_between_epochs(trainer: "Trainer") -> None:
    """Lightning: go on after a checkpoint from the end of an epoch with the next epoch, whatever ends the run.

    With `max_steps` Lightning (2.6) takes every checkpoint for one from within an epoch: it ends the epoch that
    has ended once more, and trains one epoch less than it counts.
    """
    from lightning.pytorch.loops.fit_loop import _FitLoop

    class WholeEpochs(_FitLoop):
        """As `_FitLoop`, which overrides the property to say otherwise of runs with `max_steps`."""

        def _iteration_based_training(self) -> bool:
            return False

    before = trainer.fit_loop
    loop = WholeEpochs(trainer, before.min_epochs, before.max_epochs)
    loop.epoch_loop = before.epoch_loop
    trainer.fit_loop = loop


def epoch_is_whole(trainer: "Trainer") -> bool:
    """Lightning: whether the epoch that is ending has seen all of its batches; `max_steps` may end it before."""
    return trainer.fit_loop.epoch_loop._num_ready_batches_reached()


def skip_next_validation(trainer: "Trainer") -> None:
    """Lightning: do not validate after this batch, though it is an epoch's last group of batches."""
    trainer.fit_loop.epoch_loop._skip_next_val = True


def has_stopped_early(trainer: "Trainer") -> bool:
    """Lightning: whether the run was told to stop by anything but `max_time`, which may be longer another time."""
    from lightning.pytorch.callbacks import EarlyStopping, Timer

    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    timers = [timer.time_remaining() for timer in callbacks if isinstance(timer, Timer)]
    is_late = any(left is not None and left <= 0 for left in timers)
    early = any(callback.stopped_epoch for callback in callbacks if isinstance(callback, EarlyStopping))
    return early or (trainer.should_stop and not is_late)


def step_schedule(scheduler: "LRScheduler", epochs: int) -> None:
    """torch: step a learning-rate schedule without its optimiser, which torch takes for a mistake and warns of."""
    scheduler.optimizer._opt_called = True  # type: ignore[attr-defined]
    for _ in range(epochs):
        scheduler.step()


def epochs_in_checkpoint(checkpoint: dict[str, Any]) -> int:
    """Lightning: how many epochs had ended when a checkpoint was written."""
    return checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]


def seconds_in_checkpoint(checkpoint: dict[str, Any]) -> float:
    """Lightning: how long a run with `max_time` had trained when a checkpoint was written; 0 for others."""
    return checkpoint["callbacks"].get("Timer", {}).get("time_elapsed", {}).get("train", 0.0)


def checkpoints_between_epochs(callback: "ModelCheckpoint") -> bool:
    """Lightning: whether a ModelCheckpoint saves after some steps or some time, and not only at an epoch's end."""
    return bool(callback._every_n_train_steps or callback._train_time_interval)


def copy_all(places: "Sequence[Tensor]", values: "Sequence[Tensor]") -> None:
    """torch: copy each of the values into its place, on a GPU by few launches for all of them."""
    import torch

    torch._foreach_copy_(list(places), list(values))


def in_forward_mode() -> bool:
    """torch: whether forward-mode derivatives are being worked out, as by torch.func's jvp, jacfwd and hessian."""
    from torch.autograd import forward_ad

    return forward_ad._current_level >= 0


def optuna_trial(study: "Study", frozen: "FrozenTrial") -> "Trial":
    """Optuna: a trial that another process has begun, to report to; it gives out only those of `ask`."""
    from optuna.trial import Trial

    return Trial(study, frozen._trial_id)


@contextmanager
def before_the_folder_is_made(check: "Callable[[DictConfig], None]") -> Iterator[None]:
    """Hydra: inside, give the config of a single run to `check` before Hydra makes a folder for that run.

    Hydra (1.3) has callbacks at that moment, but only warns of what they raise.
    """
    from hydra._internal import hydra as internal
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict, read_write

    run_job: Callable[..., Any] = internal.run_job  # type: ignore[attr-defined]

    def checked(config: "DictConfig", **options: Any) -> Any:
        HydraConfig.instance().set_config(config)
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            config.hydra.runtime.output_dir = str(Path(str(config.hydra.run.dir)).absolute())
        HydraConfig.instance().set_config(config)
        check(config)
        return run_job(config=config, **options)

    internal.run_job = checked  # type: ignore[attr-defined, assignment]
    try:
        yield
    finally:
        internal.run_job = run_job  # type: ignore[attr-defined]
