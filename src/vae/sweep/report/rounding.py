"""Draws of few digits, which keep the names of folders short and are exactly what is trained."""

from typing import Any

from optuna.distributions import FloatDistribution
from optuna.samplers import BaseSampler

DIGITS = 4


class Rounded(BaseSampler):
    """A sampler whose numbers are rounded to four digits before the study gets them.

    Rounding only what is trained would leave the study with other values than those whose results it is told.

    Args:
        sampler: draws the numbers.
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


def rounded(value: Any, distribution: Any) -> Any:
    """A drawn number to four digits, within its bounds; anything else as it is."""
    if not isinstance(distribution, FloatDistribution):
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), distribution.low), distribution.high)
