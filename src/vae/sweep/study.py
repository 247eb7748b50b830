"""A sweep's Optuna study: its file, the search spaces, and draws with few digits."""

from collections.abc import Mapping
from typing import Any

import optuna
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from vae.checks import ConfigError
from vae.sweep.directory import SweepDirectory
from vae.sweep.plan import Job, make_job

NAME = "sweep"
DIGITS = 4

optuna.logging.set_verbosity(optuna.logging.WARNING)


def storage(directory: SweepDirectory) -> BaseStorage:
    """Return the study's file. Several processes may write it, also on network file systems."""
    return JournalStorage(JournalFileBackend(str(directory.path / "optuna.log")))


def search_space(override: Override) -> BaseDistribution:
    """Return Optuna's distribution for an override.

    Raises:
        ConfigError: there is nothing to choose from.
    """
    value = override.value()
    given = f"{override.get_key_element()}={override.get_value_string()}"
    try:
        if isinstance(value, IntervalSweep):
            low, high, log = value.start or 0.0, value.end or 0.0, "log" in value.tags
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low), float(high), log=log)
        if isinstance(value, RangeSweep) and isinstance(value.start, int) and isinstance(value.step, int):
            values = [int(str(each)) for each in override.sweep_iterator()]
            return IntDistribution(values[0], values[-1], step=value.step)
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{given}: {' '.join(str(error).split())}") from error


def examples(space: BaseDistribution) -> list[str]:
    """Return values for a test of the config before any job runs."""
    if isinstance(space, CategoricalDistribution):
        return [str(choice) for choice in space.choices]
    assert isinstance(space, IntDistribution | FloatDistribution)
    return [str(space.low)]


def job_of(trial: optuna.trial.Trial | optuna.trial.FrozenTrial) -> Job:
    """Return the job of a trial, with its values as one would type them."""
    return make_job(
        {key: f"{value:.12g}" if isinstance(value, float) else str(value) for key, value in trial.params.items()}
    )


def belongs(trial: optuna.trial.Trial | optuna.trial.FrozenTrial, spaces: Mapping[str, BaseDistribution]) -> bool:
    """Return whether a trial's values belong to the spaces that are searched.

    The check is needed because the study's file may come from a stranger.
    """
    return trial.params.keys() == spaces.keys() and all(_holds(spaces[k], v) for k, v in trial.params.items())


def _holds(space: BaseDistribution, value: Any) -> bool:
    if isinstance(space, CategoricalDistribution):
        return value in space.choices
    assert isinstance(space, IntDistribution | FloatDistribution)
    return isinstance(value, int | float) and not isinstance(value, bool) and space.low <= value <= space.high


class RoundedDraws(BaseSampler):
    """A sampler whose numbers are rounded to four digits before the study gets them.

    This keeps the names of folders short. If only the trained values were rounded, the study would have other
    values than those that its results belong to.

    Args:
        sampler: the sampler that draws the numbers.
    """

    def __init__(self, sampler: BaseSampler):
        self.sampler = sampler

    def infer_relative_search_space(self, study: Any, trial: Any) -> Any:
        return self.sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Any, trial: Any, search_space: Any) -> dict[str, Any]:
        drawn = self.sampler.sample_relative(study, trial, search_space)
        return {name: rounded(value, search_space[name]) for name, value in drawn.items()}

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        drawn = self.sampler.sample_independent(study, trial, param_name, param_distribution)
        return rounded(drawn, param_distribution)

    def before_trial(self, study: Any, trial: Any) -> None:
        self.sampler.before_trial(study, trial)

    def after_trial(self, study: Any, trial: Any, state: Any, values: Any) -> None:
        self.sampler.after_trial(study, trial, state, values)

    def reseed_rng(self) -> None:
        self.sampler.reseed_rng()


def rounded(value: Any, distribution: BaseDistribution) -> Any:
    """Return a drawn number rounded to four digits, within its bounds, and anything else unchanged."""
    if not isinstance(distribution, FloatDistribution):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), distribution.low), distribution.high)
