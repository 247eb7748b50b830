"""Every file under conf/ is found, composed into a run, and instantiated; a forgotten one fails."""

from collections.abc import Callable

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vae.paths import CONF
from vae.training.build import build_model, build_module, build_trainer

# Options that do not go with the defaults, or want a file that a fresh clone has not (a feature network).
NEEDS: dict[str, list[str]] = {
    "metric/full": ["~metric.test.generation"],
    "posterior/delta": ["objective=reconstruction"],
    "posterior/flow": ["objective.kl=monte_carlo"],
    "prior/flow": ["objective.kl=monte_carlo"],
    "prior/gaussian_mixture": ["objective.kl=monte_carlo"],
    "prior/vamp": ["objective.kl=monte_carlo"],
}
OPTIONS = sorted(
    str(file.relative_to(CONF).with_suffix(""))
    for file in CONF.glob("*/**/*.yaml")
    if file.relative_to(CONF).parts[0] not in ("hydra", "reproduce")  # tables have tests/reproduction
)


def _override(option: str) -> list[str]:
    group, _, name = option.rpartition("/")
    return [f"{group}={name}", *NEEDS.get(option, [])]


def test_there_are_options() -> None:
    assert len(OPTIONS) > 15


@pytest.mark.parametrize("option", OPTIONS)
def test_option_composes_and_resolves(option: str, composed: Callable[..., DictConfig]) -> None:
    config = composed(*_override(option))
    assert OmegaConf.to_container(config, resolve=True)


@pytest.mark.parametrize("option", [o for o in OPTIONS if not o.startswith(("data/", "trainer/", "logger/"))])
def test_option_builds_a_module(option: str, composed: Callable[..., DictConfig]) -> None:
    config = composed(*_override(option))
    module = build_module(config, instantiate(config.data))
    assert sum(p.numel() for p in module.parameters()) > 0


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith("data/")])
def test_data_option_declares_its_image_shape(option: str, composed: Callable[..., DictConfig]) -> None:
    config = composed(*_override(option))
    shape = instantiate(config.data).image_shape
    assert len(shape) == 3
    assert build_model(config, shape).image_shape == shape


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith(("trainer/", "callback/"))])
def test_option_builds_a_trainer(option: str, composed: Callable[..., DictConfig]) -> None:
    config = composed(*_override(option), "logger=csv")
    assert build_trainer(config).max_epochs is not None


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith("logger/")])
def test_logger_option_instantiates(option: str, composed: Callable[..., DictConfig]) -> None:
    assert isinstance(instantiate(composed(*_override(option)).logger), DictConfig)
