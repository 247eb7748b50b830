"""`prior=uniform`: every code is equally probable."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, Independent

from vae.bound.codes import Codes
from vae.prior.prior import Prior


class Uniform(Prior):
    """p(c) = K^−n, so that the rate of a deterministic code is n ln K (van den Oord et al. 2017, section 3.2).

    Args:
        latent_size: D.
        image_shape: (C, H, W); of use only to priors that are built from images.
    """

    over_codes = True
    has_table = True
    logits: Tensor

    def __init__(self, latent_size: int, image_shape: tuple[int, int, int]):
        super().__init__()

    def take_codes(self, codes: Codes) -> None:
        """Be a prior over these codes."""
        self.register_buffer("logits", torch.zeros(codes.count, codes.classes), persistent=False)

    def forward(self, encode: Callable[[Tensor], Distribution]) -> Independent:
        """p(c), of event shape (n,). `encode` (x → q(z|x)) is not used by this prior."""
        return Independent(Categorical(logits=self.logits, validate_args=False), 1, validate_args=False)
