"""Weights drawn by name: their range is the equation's, and everything else is as it was."""

import math
from collections.abc import Callable

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn
from torch.nn.functional import softplus

from vae.checks import ConfigError
from vae.model import LatentModel
from vae.paths import CONF
from vae.training.build import build_model, build_module, build_trainer


@pytest.mark.parametrize("init", ["glorot_uniform", "glorot_weights"])
@pytest.mark.parametrize("network", ["mlp", "gated_mlp", "conv"])
def test_glorots_weights_fill_their_range_and_no_more(
    network: str, init: str, composed: Callable[..., DictConfig]
) -> None:
    model = build_model(composed(f"init={init}", f"network={network}"), (1, 16, 16))
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | nn.Conv2d | nn.ConvTranspose2d)]
    assert len(layers) > 4
    for layer in layers:
        receptive = math.prod(layer.weight.shape[2:])
        limit = math.sqrt(6 / (receptive * (layer.weight.shape[0] + layer.weight.shape[1])))
        assert 0.97 * limit < layer.weight.abs().max() <= limit
        assert layer.bias is not None
        if init == "glorot_uniform":
            assert layer.bias.eq(0).all()
        else:
            # As torch has it, which takes a transposed convolution's outputs for its inputs.
            limit = 1 / math.sqrt(receptive * layer.weight.shape[1])
            assert 0 < layer.bias.abs().max() <= limit
            assert layer.bias.numel() < 50 or layer.bias.abs().max() > 0.9 * limit


def drawn(composed: Callable[..., DictConfig], *overrides: str) -> LatentModel:
    """A new model of 8 × 8 pixels, from one seed."""
    torch.manual_seed(3)
    return build_model(composed(*overrides), (1, 8, 8))


def test_the_default(composed: Callable[..., DictConfig]) -> None:
    assert composed().init == "glorot_weights"


def test_glorot_weights_are_glorots_weights_and_torchs_biases(composed: Callable[..., DictConfig]) -> None:
    weights = dict(drawn(composed, "init=glorot_uniform").named_parameters())
    biases = dict(drawn(composed, "init=torch").named_parameters())
    for name, parameter in drawn(composed, "init=glorot_weights").named_parameters():
        assert torch.equal(parameter, biases[name] if name.endswith("bias") else weights[name])


def test_only_where_biases_are_zero_does_a_relu_decoder_scale_with_z(composed: Callable[..., DictConfig]) -> None:
    z = torch.randn(50, 6, generator=torch.Generator().manual_seed(1))

    def misfit(init: str) -> float:
        """How far f(2z) − f(0) is from 2 (f(z) − f(0)), relatively: 0 if f is homogeneous but for a constant."""
        decoder = drawn(composed, f"init={init}", "network.activation=relu").decoder
        once, twice = (decoder(scale * z) - decoder(0 * z) for scale in (1, 2))
        return ((twice - 2 * once).norm() / twice.norm()).item()

    assert misfit("glorot_uniform") < 1e-6
    assert misfit("glorot_weights") > 0.05


def test_another_name_is_refused(composed: Callable[..., DictConfig]) -> None:
    with pytest.raises(ConfigError, match="init=he: must be one of torch, glorot_uniform, glorot_weights"):
        build_model(composed("init=he"), (1, 8, 8))


BURDA = ["burda_vae", "burda_iwae", "stl", "dreg"]
STARTING_AT_THE_MEAN = {*BURDA, *(f"{name}_short" for name in BURDA), "iwae"}


@pytest.mark.parametrize("preset", sorted(file.stem for file in CONF.glob("experiment/*.yaml")))
def test_only_burdas_presets_start_at_the_mean(preset: str, composed: Callable[..., DictConfig]) -> None:
    assert composed(f"experiment={preset}").start_from_mean == (preset in STARTING_AT_THE_MEAN)


def test_the_default_does_not(composed: Callable[..., DictConfig]) -> None:
    assert not composed().start_from_mean


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


@pytest.mark.parametrize("init", ["glorot_weights", "glorot_uniform", "torch"])
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
    config = composed("start_from_mean=0.5")
    with pytest.raises(ConfigError, match=r"start_from_mean=0\.5: must be true or false"):
        build_module(config, instantiate(config.data))
