"""Whatever goes wrong becomes one line."""

import pytest

from vae.checks import ConfigError
from vae.command.error_line import error_line


def _raised(error: Exception, cause: Exception | None = None) -> Exception:
    error.__cause__ = cause
    return error


def test_a_config_error_is_found_behind_what_hydra_wraps_around_it() -> None:
    wrapped = _raised(RuntimeError("Error in call to target\nfull_key: likelihood"), ConfigError("sigma=0: no"))
    assert error_line(wrapped, []) == "error: sigma=0: no"


def test_an_unexpected_error_names_its_type_and_how_to_see_more() -> None:
    line = error_line(ValueError("first\n  second"), [])
    assert line == "error: ValueError: first second (HYDRA_FULL_ERROR=1 shows where)"


@pytest.mark.parametrize(
    ("key", "argument", "expected"),
    [
        ("latent_sze", "latent_sze=3", "latent_sze=3: no such key; did you mean latent_size?"),
        ("likelihood.sgma", "likelihood.sgma=1", "likelihood.sgma=1: no such key; did you mean likelihood.sigma?"),
        ("likelihood.qqq", "likelihood.qqq=1", "likelihood.qqq=1: no such key (likelihood has sigma"),
    ],
)
def test_an_unknown_key_is_answered_with_those_there_are(key: str, argument: str, expected: str) -> None:
    from hydra.errors import ConfigCompositionException

    error = ConfigCompositionException(f"Could not override '{key}'.\nTo append to your config use +{argument}")
    assert error_line(error, [argument]).startswith(f"error: {expected}")


def test_the_keys_are_those_of_the_chosen_group() -> None:
    from hydra.errors import ConfigCompositionException

    error = ConfigCompositionException("Could not override 'likelihood.sigma'.")
    line = error_line(error, ["likelihood=gaussian_learned", "likelihood.sigma=1"])
    assert "likelihood has init_sigma, min_sigma" in line
