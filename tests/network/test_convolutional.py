"""What holds for the convolutional networks alike: any size, mirrored, every parameter used."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from commands import run_command
from vae.checks import ConfigError
from vae.network.conv import ConvDecoder, ConvEncoder
from vae.network.norm import norm_layer
from vae.network.pyramid import UPSAMPLES, double, halve, pyramid
from vae.network.resnet import ResNetDecoder, ResNetEncoder
from vae.training.build import build_model

OPTIONS = {"base_width": 8, "max_width": 16, "norm": "group", "activation": "silu", "channels_last": True}
NETWORKS = [
    pytest.param(ConvEncoder, ConvDecoder, {"depth": None, "upsample": upsample}, id=f"conv-{upsample}")
    for upsample in UPSAMPLES
] + [
    pytest.param(ResNetEncoder, ResNetDecoder, {"blocks": 1, "upsample": upsample}, id=f"resnet-{upsample}")
    for upsample in UPSAMPLES
]
SHAPES = [(1, 8, 8), (3, 1, 1), (2, 1, 9), (1, 28, 28), (3, 45, 57), (3, 64, 64), (5, 33, 6)]
Parts = tuple[nn.Module, nn.Module]


def _build(encoder: type, decoder: type, shape: tuple[int, int, int], params: int, **options: object) -> Parts:
    inwards = {name: value for name, value in options.items() if name != "upsample"}
    return encoder(shape, **OPTIONS | inwards), decoder(4, (params, *shape[1:]), **OPTIONS | options)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("encoder", "decoder", "options"), NETWORKS)
def test_any_image_shape(encoder: type, decoder: type, options: dict, shape: tuple[int, int, int]) -> None:
    inwards, outwards = _build(encoder, decoder, shape, 7, **options)
    assert inwards(torch.rand(2, *shape)).shape == (2, inwards.features)
    assert outwards(torch.rand(3, 4)).shape == (3, 7, *shape[1:])


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if max(shape[1:]) > 1], ids=str)
@pytest.mark.parametrize(("encoder", "decoder", "options"), NETWORKS)
def test_decoder_mirrors_encoder(encoder: type, decoder: type, options: dict, shape: tuple[int, int, int]) -> None:
    inwards, outwards = _build(encoder, decoder, shape, shape[0], **options | {"upsample": "transposed"})
    seen: dict[str, list[tuple[int, ...]]] = {"in": [], "out": []}

    def note(side: str, index: int) -> Callable[..., None]:
        return lambda _module, given, made: seen[side].append(tuple((given[0], made)[index].shape[1:]))

    for module in inwards.modules():
        if isinstance(module, nn.Conv2d) and module.stride != (1, 1):
            module.register_forward_hook(note("in", 0))
    for module in outwards.modules():
        if isinstance(module, nn.ConvTranspose2d):
            module.register_forward_hook(note("out", 1))
    inwards(torch.rand(2, *shape))
    outwards(torch.rand(2, 4))
    assert seen["out"] == seen["in"][::-1]


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 9, 14), (2, 1, 5)], ids=str)
def test_double_is_the_transpose_of_halve(shape: tuple[int, int, int], float64: None) -> None:
    """⟨A x, y⟩ = ⟨x, Aᵀ y⟩ with the same weights, odd sizes included."""
    outer, inner = pyramid(shape, 8, 8, depth=1)
    down, up = halve(outer, inner), double(inner, outer)
    up.weight = down.weight
    for layer in (down, up):
        nn.init.zeros_(layer.bias)
    x, y = torch.rand(2, *outer), torch.rand(2, *inner)
    torch.testing.assert_close((down(x) * y).sum(), (x * up(y)).sum())


@pytest.mark.parametrize("norm", ["group", "batch", "none"])
@pytest.mark.parametrize(("encoder", "decoder", "options"), NETWORKS)
def test_every_parameter_gets_a_gradient(encoder: type, decoder: type, options: dict, norm: str) -> None:
    parts = _build(encoder, decoder, (3, 13, 16), 3, **options, norm=norm)
    weight = torch.rand(parts[0].features)
    loss = (parts[0](torch.rand(4, 3, 13, 16)) * weight).square().sum() + parts[1](torch.rand(4, 4)).square().sum()
    loss.backward()
    for part in parts:
        for name, parameter in part.named_parameters():
            assert parameter.grad is not None, name
            if not (norm == "batch" and name.endswith("bias")):  # which batch norm subtracts again
                assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize(("encoder", "decoder", "options"), NETWORKS)
def test_output_bias_adds_to_every_pixel(encoder: type, decoder: type, options: dict) -> None:
    _, outwards = _build(encoder, decoder, (3, 13, 16), 6, **options)
    params, z = torch.randn(6, 13, 16), torch.rand(2, 4)
    before = outwards(z)
    outwards.set_output_bias(params)
    torch.testing.assert_close(outwards(z), before + params)


@pytest.mark.parametrize(("encoder", "decoder", "options"), NETWORKS)
def test_memory_format_changes_no_value(encoder: type, decoder: type, options: dict) -> None:
    x, z = torch.rand(2, 3, 13, 16), torch.rand(2, 4)
    last = _build(encoder, decoder, (3, 13, 16), 3, **options, channels_last=True)
    first = _build(encoder, decoder, (3, 13, 16), 3, **options, channels_last=False)
    for part, other, given in zip(last, first, (x, z), strict=True):
        other.load_state_dict(part.state_dict())
        torch.testing.assert_close(part(given), other(given), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_every_feature_map_and_its_gradient_has_the_memory_format(
    network: str, channels_last: bool, composed: Callable[..., DictConfig]
) -> None:
    """Within `LatentModel`, as the option sets it: one layer that changed it would have each map copied.

    Only the gradient of the decoder's output, which comes first, has the order of the images (NCHW).
    """
    small = ["network.base_width=4", "network.max_width=8", f"network.channels_last={channels_last}"]
    model = build_model(composed(f"network={network}", *small), (3, 12, 16))
    order = torch.channels_last if channels_last else torch.contiguous_format
    convolutions = {m: name for name, m in model.named_modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)}
    gradients: list[bool] = []

    def check(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        assert given[0].is_contiguous(memory_format=order), convolutions[module]
        assert made.is_contiguous(memory_format=order), convolutions[module]
        made.register_hook(lambda gradient: gradients.append(gradient.is_contiguous(memory_format=order)))

    for module in convolutions:
        module.register_forward_hook(check)
    model.elbo(torch.rand(5, 3, 12, 16)).sum().backward()
    assert gradients == [not channels_last, *[True] * (len(convolutions) - 1)]


def test_no_memory_format() -> None:
    """In a process of its own, where nothing looks at annotations first."""
    done = run_command("-c", "from vae.network.pyramid import MemoryFormat; MemoryFormat('maybe')")
    assert done.stderr.splitlines()[-1].endswith("ConfigError: network.channels_last=maybe: must be true or false")


@pytest.mark.parametrize(("encoder", "decoder", "options"), NETWORKS)
def test_bfloat16_under_autocast(encoder: type, decoder: type, options: dict) -> None:
    parts = _build(encoder, decoder, (3, 16, 16), 3, **options)
    for part, given in zip(parts, (torch.rand(2, 3, 16, 16), torch.rand(2, 4)), strict=True):
        exact = part(given)
        with torch.autocast("cpu", torch.bfloat16):
            half = part(given)
        assert half.isfinite().all()
        assert torch.nn.functional.mse_loss(half.float(), exact) < 1e-2 * exact.var()


def test_group_norm_keeps_images_apart() -> None:
    """With group norm the features of an image do not depend on its batch; with batch norm they do."""

    def alone_and_together(norm: str) -> tuple[Tensor, Tensor]:
        encoder = ConvEncoder((3, 16, 16), **OPTIONS | {"norm": norm, "depth": None})
        x = torch.rand(4, 3, 16, 16)
        return encoder(x[:2]), encoder(x)[:2]

    torch.testing.assert_close(*alone_and_together("group"), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(*alone_and_together("batch"), atol=1e-3)


def _grid(images: Tensor) -> float:
    """How far the images' spectrum stands out at the periods of strides, 2, 4 and 8, over the median nearby.

    Along the axes, where edges of the image show, what is nearby lies on the axis, too.
    """
    energy = torch.fft.fft2(images - images.mean((2, 3), keepdim=True)).abs().square().mean((0, 1))
    side, found = len(energy), []
    for row, column in itertools.product(range(0, side, side // 8), repeat=2):
        near = [
            energy[(row + i) % side, (column + j) % side]
            for i, j in itertools.product((-2, -1, 0, 1, 2), repeat=2)
            if (i or j) and (row or not i) and (column or not j)
        ]
        if row or column:
            found.append(float(energy[row, column] / torch.stack(near).median()))
    return max(found)


@pytest.mark.parametrize("network", ["conv", "resnet"])
def test_the_default_decoder_shows_no_grid(network: str, composed: Callable[..., DictConfig]) -> None:
    """What images of a new decoder have at the strides' periods is no peak; transposed convolutions have one."""

    def grid(upsample: str) -> float:
        torch.manual_seed(0)
        model = build_model(composed(f"network={network}", f"network.upsample={upsample}"), (3, 64, 64))
        with torch.no_grad():
            return _grid(model.decode(torch.randn(64, model.latent_size)).mean)

    assert composed(f"network={network}").network.upsample == "resize"
    assert grid("resize") < 3
    assert grid("transposed") > 30


def test_depth_follows_from_the_size() -> None:
    sides = {size: [level.height for level in pyramid((3, size, size), 32, 128)] for size in (8, 28, 64, 256)}
    assert sides == {8: [8, 4], 28: [28, 14, 7, 3], 64: [64, 32, 16, 8, 4], 256: [256, 128, 64, 32, 16, 8, 4]}
    assert [level.channels for level in pyramid((3, 64, 64), 32, 128)] == [3, 32, 64, 128, 128]
    assert [level[1:] for level in pyramid((3, 45, 57), 8, 8)] == [(45, 57), (22, 28), (11, 14), (5, 7), (2, 3)]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (partial(pyramid, (3, 8, 8), 0, 8), "network.base_width=0: must be a whole number of at least 1"),
        (partial(pyramid, (3, 8, 8), 8, 4), "network.max_width=4: must be a whole number of at least 8"),
        (partial(pyramid, (3, 8, 8), 8, 8, 0), "network.depth=0: must be a whole number of at least 1"),
        (partial(pyramid, (3, 8, 9), 8, 8, 4), "network.depth=4: an image of 8×9 can be halved 3 times"),
        (partial(norm_layer, "layer", 8), "network.norm=layer: must be one of group, batch, none"),
        (
            partial(ResNetEncoder, (3, 8, 8), **OPTIONS, blocks=0),
            "network.blocks=0: must be a whole number from 1 to 1000",
        ),
    ],
)
def test_impossible_sizes(build: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()
