"""The normalisations that convolutional networks may be configured with, by name."""

from math import gcd

from torch import nn

from vae.checks import check_choice
from vae.network.activation import activation_layer

NORMS = ("group", "batch", "none")
GROUPS = 8


def norm_layer(name: str, channels: int) -> nn.Module:
    """A new normalisation of `channels` feature maps.

    `group`: over (up to) 8 groups of channels of one image, so that an image's features depend on no other
    image (Wu & He 2018, Group normalization). `batch`: over the batch (Ioffe & Szegedy 2015, Batch
    normalization). `none`: nothing.

    Raises:
        ConfigError: there is none of that name.
    """
    check_choice("network.norm", name, NORMS)
    if name == "group":
        return nn.GroupNorm(gcd(GROUPS, channels), channels)
    return nn.BatchNorm2d(channels) if name == "batch" else nn.Identity()


def norm_and_activation(channels: int, norm: str, activation: str) -> list[nn.Module]:
    """What stands between two convolutions."""
    return [norm_layer(norm, channels), activation_layer(activation)]
