"""The normalisations that convolutional networks may be configured with, by name."""

from math import gcd

import torch
from jaxtyping import Float
from torch import Tensor, distributed, nn

from vae.bound.ranks import mean_over_ranks, several_ranks
from vae.checks import check_choice
from vae.network.activation import activation_layer

NORMS = ("group", "batch", "none")
GROUPS = 8


def norm_layer(name: str, channels: int) -> nn.Module:
    """Return a new normalisation of `channels` feature maps.

    `group`: over (up to) 8 groups of channels of one image, so that an image's features depend on no other
    image (Wu & He 2018, Group normalization). `batch`: over the batch, of all ranks (Ioffe & Szegedy
    2015, Batch normalization). `none`: nothing.

    Raises:
        ConfigError: there is none of that name.
    """
    check_choice("network.norm", name, NORMS)
    if name == "group":
        return nn.GroupNorm(gcd(GROUPS, channels), channels)
    return BatchNorm(channels) if name == "batch" else nn.Identity()


class BatchNorm(nn.BatchNorm2d):
    """Batch normalisation by the statistics of all ranks' images in training, on whatever device.

    (torch's SyncBatchNorm runs on GPUs only.)
    """

    def forward(self, input: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        if not self.training or not several_ranks():
            return super().forward(input)
        x = input.float()
        mean = mean_over_ranks(x.mean((0, 2, 3)))
        variance = mean_over_ranks((x - mean[:, None, None]).square().mean((0, 2, 3)))
        values = x.numel() // x.shape[1] * distributed.get_world_size()
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * values / (values - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return ((x - mean[:, None, None]) * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)


def norm_and_activation(channels: int, norm: str, activation: str) -> list[nn.Module]:
    """Return what stands between two convolutions."""
    return [norm_layer(norm, channels), activation_layer(activation)]
