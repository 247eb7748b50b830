"""The sizes of feature maps from the image inwards, which encoder and decoder walk in opposite directions."""

from collections.abc import Iterable, Sequence
from math import prod
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from vae.checks import ConfigError, check_bool, check_choice, check_int
from vae.network.network import Decoder
from vae.network.norm import norm_and_activation

SMALLEST = 4
"""Sides are halved until none is above this."""
UPSAMPLES = ("resize", "transposed")


class Level(NamedTuple):
    """Feature maps of one resolution: how many, and their height and width."""

    channels: int
    height: int
    width: int


def pyramid(shape: tuple[int, int, int], base_width: int, max_width: int, depth: int | None = None) -> list[Level]:
    """Return the image itself, then a level for each halving, of `base_width` channels and then twice as many
    each.

    Sides are halved, rounding down, until none is above 4 (but at least once), or exactly `depth` times. A
    side of 1 stays.

    Args:
        shape: (C, H, W) of the image.
        base_width: channels after the first halving.
        max_width: where doubling the channels stops.
        depth: the number of halvings, or None to find it from the size.

    Raises:
        ConfigError: a width or depth that cannot be.
    """
    check_int("network.base_width", base_width)
    check_int("network.max_width", max_width, minimum=base_width)
    side = max(shape[1:])
    if depth is None:
        depth = next(n for n in range(1, 64) if side >> n <= SMALLEST)
    elif check_int("network.depth", depth) > max(side.bit_length() - 1, 1):
        most = max(side.bit_length() - 1, 1)
        raise ConfigError(f"network.depth={depth}: an image of {shape[1]}×{shape[2]} can be halved {most} times")
    levels = [Level(*shape)]
    for n in range(depth):
        _, height, width = levels[-1]
        levels.append(Level(min(base_width << n, max_width), max(height // 2, 1), max(width // 2, 1)))
    return levels


def halve(outer: Level, inner: Level) -> nn.Conv2d:
    """Return the strided convolution from a level to the next one inwards; an axis of size 1 is left as it is."""
    kernel, stride, padding = _geometry(outer)
    return nn.Conv2d(outer.channels, inner.channels, kernel, stride, padding)


def outwards(
    inner: Level, outer: Level, to_image: bool, norm: str, activation: str, upsample: str
) -> list[nn.Module]:
    """From the maps of a level to those of the next one outwards, in one of the ways of `UPSAMPLES`.

    `resize`: a 3×3 convolution where the maps are small, then bilinear resizing, which is the same for each output
    pixel, so that nothing has the stride's period (Odena et al. 2016, Deconvolution and checkerboard artifacts).
    Before the likelihood's parameters is one more 3×3 convolution, at the full resolution, of half as many maps
    as there are inside of it. `transposed`: the transpose of `halve`, as in DCGAN, up to the parameters.

    Raises:
        ConfigError: there is no such way.
    """
    if check_choice("network.upsample", upsample, UPSAMPLES) == "transposed":
        return [double(inner, outer)]
    if not to_image:
        return [nn.Conv2d(inner.channels, outer.channels, 3, padding=1), Resize(outer.height, outer.width)]
    channels = max(inner.channels // 2, 1)
    return [
        nn.Conv2d(inner.channels, channels, 3, padding=1),
        Resize(outer.height, outer.width),
        *norm_and_activation(channels, norm, activation),
        LastConvolution(channels, outer.channels, 3, padding=1),
    ]


class LastConvolution(nn.Conv2d):
    """The convolution that ends in the likelihood's parameters, with smaller weights at the start than others.

    Otherwise what it makes of a new decoder's maps is as large as the range of a pixel, and the first steps go to
    taking it back: on CelebA at σ = 0.1 the bound after 50 steps was −23,610 and with this −12,147.
    """

    START = 0.25

    @torch.no_grad()
    def start_small(self) -> None:
        """Scale the weights, which have just been drawn."""
        self.weight.mul_(self.START)


class Resize(nn.Module):
    """Bilinear resizing of maps to a height and width."""

    def __init__(self, height: int, width: int):
        super().__init__()
        self.size = (height, width)

    def forward(self, maps: Float[Tensor, "N C H0 W0"]) -> Float[Tensor, "N C H W"]:
        return F.interpolate(maps, self.size, mode="bilinear", align_corners=False)


def double(inner: Level, outer: Level) -> nn.ConvTranspose2d:
    """Return the transpose of `halve`: from a level to the next one outwards, odd sizes restored."""
    kernel, stride, padding = _geometry(outer)
    odd = (outer.height % 2 * (stride[0] - 1), outer.width % 2 * (stride[1] - 1))
    return nn.ConvTranspose2d(inner.channels, outer.channels, kernel, stride, padding, odd)


def _geometry(outer: Level) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Kernel, stride and padding that halve the sides of a level, rounding down.

    The kernel, 4, is a multiple of the stride, so that in the transpose every pixel is reached by equally
    many inputs (Odena et al. 2016, Deconvolution and checkerboard artifacts).
    """
    tall, wide = outer.height > 1, outer.width > 1
    return (4 if tall else 1, 4 if wide else 1), (2 if tall else 1, 2 if wide else 1), (int(tall), int(wide))


class PixelBias(nn.Module):
    """Adds a learned bias to each pixel of each map, so that the output can start at the mean image."""

    def __init__(self, shape: tuple[int, int, int]):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))

    def forward(self, maps: Float[Tensor, "N P H W"]) -> Float[Tensor, "N P H W"]:
        return maps + self.bias


class MemoryFormat(nn.Module):
    """Lays feature maps out as NHWC (`channels_last`, the faster one for convolutions) or as NCHW.

    The weights stay as they are: a convolution brings them into the order that its kernel wants by itself, and
    NHWC weights were no quicker (a step of conv_64, one thread of a shared x86-64 machine: 305 ms and 291).
    """

    def __init__(self, channels_last: bool):
        super().__init__()
        last = check_bool("network.channels_last", channels_last)
        self.memory_format = torch.channels_last if last else torch.contiguous_format

    def forward(self, maps: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        return maps.contiguous(memory_format=self.memory_format)


class PyramidDecoder(Decoder):
    """z → the innermost maps → layers that lead outwards through the levels → a bias for each pixel.

    Args:
        latent_size: D.
        levels: the sizes, from the likelihood's parameters inwards.
        layers: from the innermost level's maps to the outermost's.
        channels_last: whether feature maps lie in memory as NHWC.
    """

    def __init__(
        self, latent_size: int, levels: Sequence[Level], layers: Iterable[nn.Module], channels_last: bool
    ):
        super().__init__()
        self.output = PixelBias(levels[0])
        self.layers = nn.Sequential(
            nn.Linear(latent_size, prod(levels[-1])),
            nn.Unflatten(1, tuple(levels[-1])),
            MemoryFormat(channels_last),
            *layers,
            self.output,
        )

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N P H W"]:
        return self.layers(z)

    @torch.no_grad()
    def set_output_bias(self, params: Float[Tensor, "P H W"]) -> None:
        """Start the output at `params`, so that training need not first find the mean image."""
        self.output.bias.copy_(params)
