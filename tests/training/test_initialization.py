"""Weights drawn by name: their range is the equation's, and everything else is as it was."""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image
from torch import nn
from torch.nn.functional import softplus

from pictures_on_disk import encode, write_folder
from vae.checks import ConfigError
from vae.model import LatentModel
from vae.network.mlp import MLPDecoder
from vae.network.pyramid import LastConvolution
from vae.paths import CONF
from vae.training.build import build_model, build_module, build_trainer
from vae.training.initialization import initialize, start_from_images


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
        limit *= layer.START if isinstance(layer, LastConvolution) else 1
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


class Own(MLPDecoder):
    """Its output starts at 0, and its other weights at 1."""

    own_init = True

    def __init__(self, *sizes: Any, **options: Any):
        super().__init__(*sizes, **options)
        for weight in self.parameters():
            nn.init.ones_(weight)
        nn.init.zeros_(self.output.weight)


@pytest.mark.parametrize("own", [True, False])
def test_what_a_part_starts_itself_is_left_alone(
    own: bool, composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Own, "own_init", own)
    config = composed("init=glorot_uniform", "network.hidden_sizes=[16]")
    build = partial(Own, hidden_sizes=[16], activation="relu")
    image_shape = (1, 8, 8)
    parts = {name: instantiate(config[name]) for name in ("posterior", "prior", "likelihood")}
    model = LatentModel(image_shape, 3, instantiate(config.network.encoder), build, **parts)
    before = {name: weight.clone() for name, weight in model.encoder.named_parameters()}
    initialize(model, "glorot_uniform")
    assert model.decoder.output.weight.eq(0).all()
    first = next(layer for layer in model.decoder.layers if isinstance(layer, nn.Linear))
    assert first.weight.eq(1).all() == own
    assert not any(torch.equal(weight, before[name]) for name, weight in model.encoder.named_parameters())


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


AT_THE_MEAN = ["burda_vae", "burda_iwae", "stl", "dreg", "fsq", "gaussian_mixture", "iwae"]
STARTS = {**dict.fromkeys(AT_THE_MEAN, True), "categorical_vae": "grey"}


@pytest.mark.parametrize("preset", sorted(file.stem for file in CONF.glob("experiment/*.yaml")))
def test_only_some_presets_start_at_the_mean(preset: str, composed: Callable[..., DictConfig]) -> None:
    start = composed(f"experiment={preset}").start_from_mean
    # Presets that are no table's leave it to what suits the likelihood.
    assert start in (STARTS.get(preset.removesuffix("_short"), False), "auto")


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        ([], "grey"),
        (["likelihood=gaussian_optimal"], "grey"),
        (["likelihood=discretized_logistic"], "grey"),
        (["likelihood=continuous_bernoulli"], True),
        (["likelihood=bernoulli", "data.binarize=dynamic"], True),
        (["likelihood=bernoulli", "data.binarize=dynamic", "start_from_mean=false"], False),
        (["start_from_mean=true"], True),
    ],
)
def test_the_start_that_auto_chooses(
    overrides: list[str], start: object, composed: Callable[..., DictConfig]
) -> None:
    config = composed(*overrides)
    assert build_module(config, instantiate(config.data)).start_from_mean == start


@pytest.mark.parametrize("start", [True, "grey", False])
@pytest.mark.parametrize("network", ["mlp", "conv"])
def test_where_the_decoder_starts(start: object, network: str, composed: Callable[..., DictConfig]) -> None:
    quiet = ["trainer.max_epochs=0", "logger=none", "callback=none", "trainer.accelerator=cpu"]
    config = composed(f"start_from_mean={start}", f"network={network}", *quiet)
    data = instantiate(config.data)
    module = build_module(config, data)
    before = module.model.decoder.output.bias.detach().clone()
    build_trainer(config).fit(module, data)
    mean, after = data.train_mean(), module.model.decoder.output.bias.view(data.image_shape)
    if start == "grey":
        torch.testing.assert_close(after.detach(), torch.full_like(mean, mean.mean().item()))
    else:
        assert torch.equal(after, mean if start else before.view_as(mean))
    assert not torch.equal(before.view_as(mean), mean)


def test_the_grey_of_a_colour_image_is_a_colour(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    colours = {f"{n}.png": encode(Image.new("RGB", (8, 8), (200, 100 + n, 20)), "PNG") for n in range(20)}
    path = write_folder(tmp_path / "images", colours)
    config = composed("data=image_folder", f"data.path={path}", "data.size=8", f"paths.cache={tmp_path}")
    data = instantiate(config.data)
    data.prepare_data()
    data.setup()
    model = build_model(config, data.image_shape)
    start_from_images(model, data, "grey")
    colour = data.train_mean().mean((1, 2))
    assert colour[0] > colour[1] + 0.2 > colour[2] + 0.4
    torch.testing.assert_close(model.decoder.output.bias.mean((1, 2)), colour)


SETS = [
    pytest.param("digits", id="digits"),
    *(pytest.param(name, marks=pytest.mark.slow, id=name) for name in ("mnist", "fashion_mnist", "celeba")),
]


@pytest.mark.parametrize("likelihood", ["gaussian", "gaussian_optimal", "bernoulli"])
@pytest.mark.parametrize("name", SETS)
def test_no_sample_is_dark_after_the_first_epoch(
    name: str, likelihood: str, composed: Callable[..., DictConfig], request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """The image at z = 0, where the prior is densest, has the brightness of the data to 20 %."""
    places = [] if name == "digits" else [f"paths.data='{request.getfixturevalue('real_data')}'"]
    config = composed(
        *(f"data={name}", f"likelihood={likelihood}", f"paths.cache={tmp_path}", *places),
        *("trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=none", "callback=none"),
    )
    torch.manual_seed(0)
    data = instantiate(config.data)
    module = build_module(config, data)
    build_trainer(config).fit(module, data)
    mean = data.train_mean().mean().item()
    with torch.no_grad():
        densest = module.model.decode(torch.zeros(1, module.model.latent_size)).mean.mean()
        samples = module.model.decode(module.model.p_z().sample((256,))).mean.mean((1, 2, 3))
    assert densest == pytest.approx(mean, rel=0.2)
    assert samples.median() == pytest.approx(mean, rel=0.2)
    assert samples.min() > 0.3 * mean


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
    with pytest.raises(ConfigError, match=r"start_from_mean=0\.5: must be auto, true, grey or false"):
        build_module(config, instantiate(config.data))
