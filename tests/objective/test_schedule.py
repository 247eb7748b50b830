"""β schedules are functions of the step with the stated values."""

import pytest

from vae.checks import ConfigError
from vae.objective.elbo import ELBO
from vae.objective.schedule import Cyclical, Linear


def test_linear_rises_and_stays() -> None:
    beta = Linear(steps=10, start=0.2, end=1.2)
    assert [beta(step) for step in (0, 5, 10, 11, 10**6)] == pytest.approx([0.2, 0.7, 1.2, 1.2, 1.2])


def test_cyclical_repeats_rising_then_holding() -> None:
    beta = Cyclical(steps=10, rise=0.5)
    assert [beta(step) for step in (0, 1, 5, 9)] == pytest.approx([0, 0.2, 1, 1])
    assert [beta(step + 30) for step in range(10)] == [beta(step) for step in range(10)]


@pytest.mark.parametrize("value", [-1, float("nan")])
def test_impossible_beta_is_refused(value: float) -> None:
    with pytest.raises(ConfigError, match=r"objective\.beta=.*at least 0"):
        ELBO(beta=value)


def test_impossible_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"objective\.beta\.steps=0"):
        Linear(steps=0)
