"""`network=conv`: strided convolutions inwards, convolutions and resizing outwards, for any C×H×W."""

from itertools import pairwise
from math import prod

from jaxtyping import Float
from torch import Tensor, nn

from vae.network.network import Encoder
from vae.network.norm import norm_and_activation
from vae.network.pyramid import MemoryFormat, PyramidDecoder, halve, outwards, pyramid


class ConvEncoder(Encoder):
    """Image → features: 4×4 convolutions of stride 2, each with its normalisation and activation.

    64×64 pixels become 32, 16, 8 and 4 a side. The architecture is that of DCGAN's discriminator
    (Radford et al. 2016), its depth found from the image's size.

    Args:
        image_shape: (C, H, W).
        base_width: channels after the first convolution; each further one has twice as many.
        max_width: where doubling them stops.
        depth: the number of convolutions; None for as many as leave no side above 4.
        norm: `group`, `batch` or `none`.
        activation: a name in `vae.network.activation`.
        channels_last: whether feature maps lie in memory as NHWC.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        base_width: int,
        max_width: int,
        depth: int | None,
        norm: str,
        activation: str,
        channels_last: bool,
    ):
        super().__init__()
        levels = pyramid(image_shape, base_width, max_width, depth)
        self.features = prod(levels[-1])
        layers = [
            layer
            for outer, inner in pairwise(levels)
            for layer in (halve(outer, inner), *norm_and_activation(inner.channels, norm, activation))
        ]
        self.layers = nn.Sequential(MemoryFormat(channels_last), *layers, nn.Flatten())

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        return self.layers(x)


class ConvDecoder(PyramidDecoder):
    """z → likelihood parameters: the encoder's feature maps in reverse, then a bias for each pixel.

    Args:
        latent_size: D.
        param_shape: (P, H, W), what the likelihood asks for.
        base_width, max_width, depth, norm, activation, channels_last: the encoder's.
        upsample: a way of `vae.network.pyramid.UPSAMPLES`; runs that are older than the choice have the one that
            stands here.
    """

    def __init__(
        self,
        latent_size: int,
        param_shape: tuple[int, int, int],
        base_width: int,
        max_width: int,
        depth: int | None,
        norm: str,
        activation: str,
        channels_last: bool,
        upsample: str = "transposed",
    ):
        levels = pyramid(param_shape, base_width, max_width, depth)
        layers = [
            layer
            for outer, inner in reversed(list(pairwise(levels)))
            for layer in (
                *norm_and_activation(inner.channels, norm, activation),
                *outwards(inner, outer, outer is levels[0], norm, activation, upsample),
            )
        ]
        super().__init__(latent_size, levels, layers, channels_last)
