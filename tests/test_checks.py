"""Checks of what a user typed return what is good and refuse the rest in one line."""

import pytest

from vae.checks import ConfigError, check_choice, check_int, check_number


@pytest.mark.parametrize("value", [0, -3, 2.0, "3", None, True, float("nan")])
def test_what_is_no_count_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^latent_size=.*: must be a whole number of at least 1$"):
        check_int("latent_size", value)


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "1", None, True, [1]])
def test_what_is_no_positive_number_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match=r"^sigma=.*: must be a number above 0$"):
        check_number("sigma", value, above=0)


def test_bounds_are_inclusive_where_they_say_so() -> None:
    assert check_number("beta", 0, minimum=0, maximum=1) == 0.0
    assert check_number("beta", 1, minimum=0, maximum=1) == 1.0
    with pytest.raises(ConfigError, match="at least 0 and at most 1"):
        check_number("beta", 1.01, minimum=0, maximum=1)


def test_what_is_no_choice_is_refused_with_the_choices() -> None:
    assert check_choice("kl", "analytic", ("analytic", "monte_carlo")) == "analytic"
    with pytest.raises(ConfigError, match=r"^kl=exact: must be one of analytic, monte_carlo$"):
        check_choice("kl", "exact", ("analytic", "monte_carlo"))
