"""A Laplace p(x|z), whose −log-density is the absolute error."""

import torch
from torch import Tensor
from torch.distributions import Independent, Laplace

from vae.checks import check_number
from vae.likelihood.likelihood import Likelihood


class LaplaceLikelihood(Likelihood):
    """`likelihood=laplace`: p(x|z) = Π_pixels exp(−|x − μ(z)| / b) / 2b.

    Args:
        image_shape: (C, H, W).
        scale: b > 0, in units of x.
    """

    def __init__(self, image_shape: tuple[int, int, int], scale: float = 0.1):
        super().__init__(image_shape)
        scale = check_number("likelihood.scale", scale, above=0)
        self.register_buffer("scale", torch.tensor(scale), persistent=False)

    scale: Tensor

    def forward(self, params: Tensor) -> Independent:
        """p(x|z), of event shape (C, H, W), for the decoder's output of shape (…, C, H, W)."""
        return Independent(Laplace(params, self.scale, validate_args=False), 3, validate_args=False)

    def params_from_mean(self, mean: Tensor) -> Tensor:
        """Return the decoder's output at which E[x|z] is `mean`."""
        return mean
