"""`prior=categorical`: independent choices with learned frequencies."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution, Independent

from vae.bound.codes import Codes
from vae.prior.prior import Prior


class Categorical(Prior):
    """p(c) = Π_i π_i(c_i), with a table π_i of frequencies for each place, learned with the rest.

    Of a mixture they are its weights.

    Args:
        latent_size: D.
        image_shape: (C, H, W); of use only to priors that are built from images.
    """

    over_codes = True
    has_table = True

    def __init__(self, latent_size: int, image_shape: tuple[int, int, int]):
        super().__init__()

    def take_codes(self, codes: Codes) -> None:
        """Be a prior over these codes."""
        self.logits = nn.Parameter(torch.zeros(codes.count, codes.classes))

    def forward(self, encode: Callable[[Tensor], Distribution]) -> Independent:
        """p(c), of event shape (n,). `encode` (x → q(z|x)) is not used by this prior."""
        return Independent(TorchCategorical(logits=self.logits, validate_args=False), 1, validate_args=False)
