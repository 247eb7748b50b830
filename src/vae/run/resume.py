"""How a run that was begun goes on: what may change, whether anything is left to train, and from which epoch."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError, check_bool, written
from vae.internals import epochs_in_checkpoint, seconds_in_checkpoint
from vae.run.checkpoint import DamagedCheckpointError, copy_checkpoint, newest_undamaged, read_checkpoint
from vae.run.directory import RunDirectory

WEIGHTS = "the weights in its checkpoint are those of this model"
ORDER = "it says which images the run trains on, in which order and with which noise"
BEGAN = "it says how a run begins"
STATE = "what it has kept so far is in the checkpoint"
PLACE = "a run's files stay in its folder"
RULES: dict[str, str | None] = {
    "name": "the run goes by it in W&B",
    "seed": ORDER,
    "steps_at_once": None,
    "threads": None,
    "compile": None,
    "recompute_decoder": None,
    "matmul_precision": None,
    "init": BEGAN,
    "start_from_mean": BEGAN,
    "budget": BEGAN,
    "suits": BEGAN,
    "latent_size": WEIGHTS,
    "fit_prior_to": BEGAN,
    "monitor": "the best epoch so far was chosen by it",
    "on_nan": None,
    "on_nan_limit": None,
    "sweep_metric": None,
    "resume": None,
    "overwrite": "a run that goes on is not replaced",
    "trust": None,
    "open": None,
    "paths": None,
    "paths.run": "a run goes on in its own folder, which may be moved",
    "sweep": "a run is no sweep",
    "data": ORDER,
    "data.path": None,
    "data.cache": None,
    "data.device": None,
    "data.eval_batch_size": None,
    "corruption": "it says what the encoder learns from",
    "network": WEIGHTS,
    "posterior": WEIGHTS,
    "prior": WEIGHTS,
    "likelihood": WEIGHTS,
    "objective": "it says what the run minimises",
    "metric": None,
    "metric.val": "the best epoch so far was chosen by it",
    "callback": STATE,
    "callback.pictures": None,
    "callback.pictures.folder": PLACE,
    "callback.page": None,
    "callback.page.run": PLACE,
    "callback.progress": None,
    "callback.summary": None,
    "callback.watch": None,
    "optimizer": STATE,
    "optimizer.lr": None,
    "optimizer.betas": None,
    "optimizer.eps": None,
    "optimizer.weight_decay": None,
    "optimizer.momentum": None,
    "scheduler": None,
    "scheduler._target_": "another schedule has another state",
    "scheduler._partial_": "another schedule has another state",
    "trainer": None,
    "trainer._target_": BEGAN,
    "trainer.default_root_dir": PLACE,
    "trainer.use_distributed_sampler": ORDER,
    "logger": None,
    "logger.csv.path": PLACE,
    "logger.tensorboard.folder": PLACE,
}
"""For each key, and all below it that have no rule of their own: None if a change takes effect when a run is
resumed, or why it is refused."""
FOLLOWERS = {
    "paths.data": ("data.path",),
    "paths.cache": ("data.cache",),
    "paths.weights": ("metric.test.generation.weights",),
    "metric.fid.features": ("metric.test.generation.features",),
    "open": ("callback.page.open",),
}
"""Keys that take the value of another in conf/, which a saved config has in full."""


class Change(NamedTuple):
    """A key that has another value than when the run was saved; None where there is or was no such key."""

    key: str
    before: Any
    now: Any


def refusal(key: str) -> str | None:
    """Why a key may not change when a run is resumed; None if it may."""
    while key not in RULES:
        key, dot, _ = key.rpartition(".")
        if not dot:
            return "it is no key of a run"
    return RULES[key]


def check_changes(saved: DictConfig, config: DictConfig) -> list[Change]:
    """Return what a resumed run's config changes, once every key has been found to take effect.

    Keys that follow a changed one are changed with it.

    Args:
        saved: as the run was saved.
        config: the same with what was typed on top.

    Raises:
        ConfigError: a key has changed that must not.
    """
    for key, followers in FOLLOWERS.items():
        was, value = OmegaConf.select(saved, key), OmegaConf.select(config, key)
        for follower in followers if was != value else ():
            if OmegaConf.select(config, follower, default=was) == was and _has(config, follower):
                OmegaConf.update(config, follower, value)
    changes = [change for change in config_changes(saved, config) if change.key != "resume"]
    for key, before, now in changes:
        why = refusal(key)
        if why is not None:
            is_choice = isinstance(now, str) and (before is None or isinstance(before, dict))
            what = "options of a group are chosen when a run begins" if is_choice else why
            was = "" if isinstance(before, dict) else f" (it is {written(before)})"
            raise ConfigError(f"{key}={written(now)}: cannot change when a run is resumed{was}: {what}")
    _check_schedule(config, changes)
    return changes


def config_changes(before: DictConfig, now: DictConfig) -> list[Change]:
    """Return the deepest keys at which two configs differ."""
    return list(_changes(_plain(before), _plain(now)))


def _check_schedule(config: DictConfig, changes: list[Change]) -> None:
    """Refuse to train beyond the end of a cosine, after which the learning rate rises again."""
    period, epochs = (config.scheduler or {}).get("T_max"), config.trainer.max_epochs
    changed = {change.key for change in changes}
    if "trainer.max_epochs" in changed and period is not None and (epochs == -1 or epochs > period):
        raise ConfigError(
            f"trainer.max_epochs={epochs}: the learning rate falls until scheduler.T_max={period} epochs and would"
            f" rise again after them; give scheduler.T_max={epochs}, too, and it follows that one from here on"
        )


def _plain(config: DictConfig) -> Any:
    return OmegaConf.to_container(config, resolve=True)


def _has(config: DictConfig, key: str) -> bool:
    parent, _, leaf = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return isinstance(node, DictConfig) and leaf in node


def _changes(before: Any, now: Any, key: str = "") -> Iterator[Change]:
    """Yield the deepest keys at which two nested containers differ."""
    if isinstance(before, dict) and isinstance(now, dict):
        for name in dict.fromkeys([*before, *now]):
            yield from _changes(before.get(name), now.get(name), f"{key}.{name}" if key else str(name))
    elif isinstance(before, dict | None) and isinstance(now, dict | None) and (before or now):
        # A whole group comes or goes: each of its keys.
        for name in before or now or {}:
            yield from _changes((before or {}).get(name), (now or {}).get(name), f"{key}.{name}")
    elif before != now or isinstance(before, bool) != isinstance(now, bool):
        yield Change(key, before, now)


class Progress(NamedTuple):
    """How far a checkpoint is.

    epochs, steps: that have been trained. seconds: how long, of a run with `max_time`. is_whole: whether it is of
    the end of an epoch, and not from within one. has_stopped: whether early stopping has ended the run.
    """

    epochs: int
    steps: int
    seconds: float
    is_whole: bool
    has_stopped: bool


NOTHING = Progress(0, 0, 0.0, True, False)


def progress(path: Path) -> Progress:
    """Return how far a checkpoint is.

    Raises:
        DamagedCheckpointError: it cannot be read.
    """
    checkpoint = read_checkpoint(path, map_location="meta")
    return Progress(
        epochs_in_checkpoint(checkpoint),
        checkpoint["global_step"],
        seconds_in_checkpoint(checkpoint),
        checkpoint.get("is_whole_epoch", True),
        checkpoint.get("should_stop", False),
    )


def is_over(done: Progress, trainer: DictConfig) -> bool:
    """Return whether a trainer's options leave nothing to train."""
    most_epochs, most_steps, most_time = trainer.max_epochs, trainer.max_steps, trainer.get("max_time")
    return (
        done.has_stopped
        or (most_epochs is not None and 0 <= most_epochs <= done.epochs)
        or (most_steps is not None and 0 <= most_steps <= done.steps)
        or (most_time is not None and _seconds(most_time) <= done.seconds)
    )


def _seconds(time: Any) -> float:
    """Return a time as Lightning takes it: DD:HH:MM:SS, or a dictionary of days, hours, minutes and seconds."""
    if isinstance(time, str):
        try:
            days, hours, minutes, seconds = (int(part) for part in time.split(":"))
        except ValueError:
            raise ConfigError(f"trainer.max_time={time}: must be DD:HH:MM:SS") from None
        return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()
    return timedelta(**time).total_seconds()


def rewind(folder: Path) -> Path | None:
    """Let a run that ended within an epoch go on from the end of the last whole one; None if it must begin anew.

    What happened at the end of a part of an epoch (early stopping counted it, the schedule did not) would not have
    happened in a run that had been given more steps from the beginning.
    """
    last, before = folder / "last.ckpt", folder / "previous.ckpt"
    if before.is_file() and progress(before).is_whole:
        before.replace(last)
        return newest_undamaged(folder)
    last.unlink()
    before.unlink(missing_ok=True)
    return None


def tidy(folder: Path, last_is_best: bool) -> None:
    """Leave of a complete run no checkpoint twice, and no previous.ckpt.

    A sweep has thousands of runs. More epochs would go on from previous.ckpt after a part of one: see `rewind`.

    Args:
        folder: of the checkpoints.
        last_is_best: whether best.ckpt and last.ckpt hold the same weights: both become names of one file.
    """
    last, before, best = folder / "last.ckpt", folder / "previous.ckpt", folder / "best.ckpt"
    try:
        if not last.is_file() or not progress(last).is_whole:
            return
    except DamagedCheckpointError:  # which who resumes the run is told
        return
    before.unlink(missing_ok=True)
    if last_is_best and best.is_file() and not best.samefile(last):
        copy_checkpoint(last, best.name)


class Continuation:
    """What a run's folder holds of an earlier training, and how a config goes on with it.

    Nothing is written before `take_up`.

    Args:
        run: the run's directory.
        config: resolved; its `resume` is null for a run that begins.
        saved: the config without what somebody typed on top of it to resume the run; None if nobody has.
        is_first: whether this process is the run's first; further ones do what that one does.

    Raises:
        ConfigError: what was typed cannot change, or has no effect; every checkpoint is damaged; or there is a run
            where another is to begin, which `overwrite` does not allow to be deleted.
    """

    def __init__(
        self, run: RunDirectory, config: DictConfig, saved: DictConfig | None = None, is_first: bool = True
    ):
        there = run.metrics_file.exists() or any((run.path / "checkpoints").glob("*.ckpt"))
        self.replaces = there and is_first and not config.resume
        if self.replaces and not check_bool("overwrite", config.overwrite):
            raise ConfigError(
                f"hydra.run.dir={run.path}: holds a run already; resume={run.path} goes on with it, and"
                " overwrite=true deletes it"
            )
        there = there and not self.replaces
        self.run, self.trainer = run, config.trainer
        self.checkpoint = run.last_checkpoint() if there else None
        self.done = progress(self.checkpoint) if self.checkpoint else NOTHING
        self.changes = check_changes(saved, config) if saved is not None else []
        self._check_lengths()
        self.is_finished = there and run.is_complete() and is_over(self.done, config.trainer)
        if self.is_finished and self.changes:
            keys = ", ".join(f"{key}={written(now)}" for key, _, now in self.changes)
            raise ConfigError(f"{keys}: {self.describe()}")

    def _check_lengths(self) -> None:
        for key, done in (("max_epochs", self.done.epochs), ("max_steps", self.done.steps)):
            changed = any(change.key == f"trainer.{key}" for change in self.changes)
            if changed and 0 <= (self.trainer[key] or 0) < done:
                raise ConfigError(
                    f"trainer.{key}={self.trainer[key]}: must be at least {done}, which are trained already, or -1"
                )

    def describe(self) -> str:
        """Return what a finished run says instead of doing anything."""
        end = "a larger trainer.max_epochs, max_steps or max_time trains on"
        how = "early stopping ended it" if self.done.has_stopped else end
        done = f"{self.done.epochs} epochs and {self.done.steps} steps"
        return f"{self.run.path}: this run is finished, after {done}; {how}"

    def take_up(self) -> Path | None:
        """Record what changes, and where training goes on take away what says that the run is complete.

        A run that is replaced is deleted here, once all that may be wrong with the new one has been found.

        Returns:
            The checkpoint to go on from; None to begin anew.
        """
        if self.replaces:
            self.run.clear()
        checkpoint, step = self.checkpoint, self.done.steps
        if not is_over(self.done, self.trainer):
            self.run.metrics_file.unlink(missing_ok=True)
            if checkpoint is not None and not self.done.is_whole:
                checkpoint = rewind(checkpoint.parent)
                step = progress(checkpoint).steps if checkpoint is not None else 0
        if self.changes:
            self.run.write_changes(step, self.changes)
        return checkpoint
