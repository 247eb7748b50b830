"""`network=resnet`: residual blocks between the halvings and doublings, for images of 64 to 256 pixels."""

from itertools import pairwise
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from vae.checks import check_int
from vae.network.network import Encoder
from vae.network.norm import norm_and_activation
from vae.network.pyramid import Level, MemoryFormat, PyramidDecoder, halve, outwards, pyramid


class ResidualBlock(nn.Module):
    """h + f(h), with f = norm, activation, 3×3 convolution, twice.

    Source: K. He et al., Identity mappings in deep residual networks, 2016, figure 1b.
    """

    def __init__(self, channels: int, norm: str, activation: str):
        super().__init__()
        self.layers = nn.Sequential(
            *norm_and_activation(channels, norm, activation),
            nn.Conv2d(channels, channels, 3, padding=1),
            *norm_and_activation(channels, norm, activation),
            nn.Conv2d(channels, channels, 3, padding=1),
        )

    def forward(self, maps: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        return maps + self.layers(maps)


def _blocks(level: Level, blocks: int, norm: str, activation: str) -> list[nn.Module]:
    check_int("network.blocks", blocks, maximum=1000)
    return [ResidualBlock(level.channels, norm, activation) for _ in range(blocks)]


class ResNetEncoder(Encoder):
    """Image → features: for each level a strided convolution, then residual blocks.

    No block works at the full resolution, where it would cost the most.

    Args:
        image_shape: (C, H, W).
        base_width: channels after the first halving; each further level has twice as many.
        max_width: where doubling them stops.
        blocks: residual blocks for each level.
        norm: `group`, `batch` or `none`.
        activation: a name in `vae.network.activation`.
        channels_last: whether feature maps lie in memory as NHWC.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        base_width: int,
        max_width: int,
        blocks: int,
        norm: str,
        activation: str,
        channels_last: bool,
    ):
        super().__init__()
        levels = pyramid(image_shape, base_width, max_width)
        self.features = prod(levels[-1])
        layers = [
            layer
            for outer, inner in pairwise(levels)
            for layer in (halve(outer, inner), *_blocks(inner, blocks, norm, activation))
        ]
        final = norm_and_activation(levels[-1].channels, norm, activation)
        self.layers = nn.Sequential(MemoryFormat(channels_last), *layers, *final, nn.Flatten())

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        return self.layers(x)


class ResNetDecoder(PyramidDecoder):
    """z → likelihood parameters: the encoder's levels in reverse, then a bias for each pixel.

    Args:
        latent_size: D.
        param_shape: (P, H, W), what the likelihood asks for.
        base_width, max_width, blocks, norm, activation, channels_last: the encoder's.
        upsample: a way of `vae.network.pyramid.UPSAMPLES`; runs that are older than the choice have the one that
            stands here.
    """

    def __init__(
        self,
        latent_size: int,
        param_shape: tuple[int, int, int],
        base_width: int,
        max_width: int,
        blocks: int,
        norm: str,
        activation: str,
        channels_last: bool,
        upsample: str = "transposed",
    ):
        levels = pyramid(param_shape, base_width, max_width)
        layers = [
            layer
            for outer, inner in reversed(list(pairwise(levels)))
            for layer in (
                *_blocks(inner, blocks, norm, activation),
                *norm_and_activation(inner.channels, norm, activation),
                *outwards(inner, outer, outer is levels[0], norm, activation, upsample),
            )
        ]
        super().__init__(latent_size, levels, layers, channels_last)
