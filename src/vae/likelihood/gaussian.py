"""Gaussian p(x|z) with one σ for all pixels: fixed, or learned with a lower bound."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vae.checks import ConfigError, check_number
from vae.precision import full_precision


class Gaussian(nn.Module):
    """`likelihood=gaussian`: p(x|z) = N(x; μ(z), σ² I) with a fixed σ.

    −log p(x|z) = Σ_pixels [(x − μ)² / 2σ² + ln σ + ½ ln 2π]: with σ = 1 half the squared error, plus a
    constant that is kept, so that values compare across σ.

    Args:
        image_shape: (C, H, W).
        sigma: σ > 0, in units of x (the range of a pixel is 1).
    """

    support = "real"

    def __init__(self, image_shape: tuple[int, int, int], sigma: float = 1.0):
        super().__init__()
        self.param_shape = image_shape
        self.sigma = check_number("likelihood.sigma", sigma, above=0)

    def forward(self, params: Float[Tensor, "*N C H W"]) -> Independent:
        """The distribution over x, of event shape (C, H, W)."""
        mean = full_precision(params)
        return Independent(Normal(mean, mean.new_tensor(self.sigma), validate_args=False), 3, validate_args=False)

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """The decoder output at which the likelihood's mean is `mean`."""
        return mean


class GaussianLearned(nn.Module):
    """`likelihood=gaussian_learned`: p(x|z) = N(x; μ(z), σ² I), one σ for all pixels learned with the rest.

    σ = min_sigma + softplus(ρ), so that the density cannot diverge where an image is fitted perfectly
    (Rybkin et al. 2021, Simple and effective VAE training with calibrated decoders, section 3).

    Args:
        image_shape: (C, H, W).
        init_sigma: σ at the start.
        min_sigma: the lower bound, below `init_sigma`.
    """

    support = "real"

    def __init__(self, image_shape: tuple[int, int, int], init_sigma: float = 0.5, min_sigma: float = 0.01):
        super().__init__()
        self.param_shape = image_shape
        self.min_sigma = check_number("likelihood.min_sigma", min_sigma, above=0)
        excess = check_number("likelihood.init_sigma", init_sigma, above=0) - min_sigma
        if excess <= 0:
            raise ConfigError(f"likelihood.init_sigma={init_sigma}: must be above min_sigma={min_sigma}")
        # The inverse of softplus.
        self.raw_sigma = nn.Parameter(torch.tensor(excess + math.log(-math.expm1(-excess))))

    @property
    def sigma(self) -> Float[Tensor, ""]:
        """The current σ."""
        return self.min_sigma + F.softplus(self.raw_sigma)

    def forward(self, params: Float[Tensor, "*N C H W"]) -> Independent:
        """The distribution over x, of event shape (C, H, W)."""
        return Independent(Normal(full_precision(params), self.sigma, validate_args=False), 3, validate_args=False)

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """The decoder output at which the likelihood's mean is `mean`."""
        return mean
