"""`prior=standard_normal`: p(z) = N(0, I)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from vae.bound.normal import UnitNormal


class StandardNormal(nn.Module):
    """p(z) = N(z; 0, I).

    Args:
        latent_size: D.
        image_shape: (C, H, W); of use only to priors that are built from images.
    """

    zero: Tensor
    one: Tensor

    def __init__(self, latent_size: int, image_shape: tuple[int, int, int]):
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent_size), persistent=False)
        self.register_buffer("one", torch.ones(latent_size), persistent=False)

    def forward(self, encode: Callable[[Tensor], Distribution]) -> Independent:
        """The distribution over z, of event shape (D,). `encode` (x → q(z|x)) is not used by this prior."""
        return Independent(UnitNormal(self.zero, self.one), 1, validate_args=False)
