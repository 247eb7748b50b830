"""Weights drawn by name: their range is the equation's, and everything else is as it was."""

import math
from collections.abc import Callable

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn
from torch.nn.functional import softplus

from vae.build import build_model, build_module, build_trainer
from vae.checks import ConfigError
from vae.cli import CONF


@pytest.mark.parametrize("network", ["mlp", "gated_mlp", "conv"])
def test_glorot_uniform_fills_its_range_and_no_more(network: str, composed: Callable[..., DictConfig]) -> None:
    model = build_model(composed("init=glorot_uniform", f"network={network}"), (1, 16, 16))
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) > 4
    for layer in layers:
        receptive = math.prod(layer.weight.shape[2:])
        limit = math.sqrt(6 / (receptive * (layer.weight.shape[0] + layer.weight.shape[1])))
        assert 0.97 * limit < layer.weight.abs().max() <= limit
        assert layer.bias is not None
        assert layer.bias.eq(0).all()


def test_the_default_is_glorots(composed: Callable[..., DictConfig]) -> None:
    torch.manual_seed(3)
    model = build_model(composed("network=mlp"), (1, 8, 8))
    torch.manual_seed(3)
    named = build_model(composed("network=mlp", "init=glorot_uniform"), (1, 8, 8))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), named.parameters(), strict=True))


def test_another_name_is_refused(composed: Callable[..., DictConfig]) -> None:
    with pytest.raises(ConfigError, match="init=he: must be one of torch, glorot_uniform"):
        build_model(composed("init=he"), (1, 8, 8))


BURDA = ["burda_vae", "burda_iwae", "stl", "dreg"]
STARTING_AT_THE_MEAN = {*BURDA, *(f"{name}_short" for name in BURDA), "iwae"}


@pytest.mark.parametrize("preset", sorted(file.stem for file in CONF.glob("experiment/*.yaml")))
def test_only_burdas_presets_start_at_the_mean(preset: str, composed: Callable[..., DictConfig]) -> None:
    assert composed(f"experiment={preset}").start_from_mean == (preset in STARTING_AT_THE_MEAN)


def test_the_default_does_not(composed: Callable[..., DictConfig]) -> None:
    assert not build_model(composed(), (1, 8, 8)).starts_from_mean


@pytest.mark.parametrize("start", [True, False])
def test_the_decoder_starts_at_the_mean_if_it_is_to(start: bool, composed: Callable[..., DictConfig]) -> None:
    config = composed(f"start_from_mean={start}", "trainer.max_epochs=0", "logger=none", "callback=none")
    data = instantiate(config.data)
    module = build_module(config, data)
    before = module.model.decoder.output.bias.detach().clone()
    build_trainer(config).fit(module, data)
    after = module.model.decoder.output.bias
    assert torch.equal(after, data.train_mean().flatten() if start else before)
    assert not torch.equal(before, data.train_mean().flatten())


@pytest.mark.parametrize("init", ["glorot_uniform", "torch"])
@pytest.mark.parametrize("network", ["mlp", "conv"])
@pytest.mark.parametrize(
    "likelihood",
    ["gaussian_per_pixel", "discretized_logistic", "discretized_logistic likelihood.components=3"],
)
def test_a_decoded_spread_starts_where_it_is_told_without_the_mean(
    likelihood: str, network: str, init: str, composed: Callable[..., DictConfig]
) -> None:
    name = "sigma" if likelihood == "gaussian_per_pixel" else "scale"
    choices = [f"network={network}", f"init={init}", *f"likelihood={likelihood}".split()]
    model = build_model(composed(*choices, f"likelihood.init_{name}=0.3"), (1, 16, 16))
    raw = model.decoder.output.bias.view(model.likelihood.param_shape).chunk(model.likelihood.param_shape[0])
    count = getattr(model.likelihood, "components", 1)
    minimum = getattr(model.likelihood, f"min_{name}")
    for spread in raw[count : 2 * count]:
        torch.testing.assert_close(minimum + softplus(spread), torch.full((1, 16, 16), 0.3))


def test_another_start_is_refused(composed: Callable[..., DictConfig]) -> None:
    with pytest.raises(ConfigError, match=r"start_from_mean=0\.5: must be true or false"):
        build_model(composed("start_from_mean=0.5"), (1, 8, 8))
