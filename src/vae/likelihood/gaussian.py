"""Gaussian p(x|z) with a σ that is fixed, learned, decoded, or optimal for the data."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from vae.checks import ConfigError, check_number
from vae.likelihood.likelihood import Likelihood


class Gaussian(Likelihood):
    """`likelihood=gaussian`: p(x|z) = N(x; μ(z), σ² I) with a fixed σ.

    −log p(x|z) = Σ_pixels [(x − μ)² / 2σ² + ln σ + ½ ln 2π]: with σ = 1, it is half the squared error plus a
    constant. The constant is kept, so that values are comparable for different σ.

    Args:
        image_shape: (C, H, W).
        sigma: σ > 0, in units of x (the range of a pixel is 1).
    """

    def __init__(self, image_shape: tuple[int, int, int], sigma: float = 1.0):
        super().__init__(image_shape)
        sigma = check_number("likelihood.sigma", sigma, above=0)
        self.register_buffer("sigma", torch.tensor(sigma), persistent=False)

    sigma: Tensor

    def forward(self, params: Float[Tensor, "*N C H W"]) -> Independent:
        """Return p(x|z), of event shape (C, H, W)."""
        return normal(params, self.sigma)

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """Return the decoder output for which the likelihood's mean is `mean`."""
        return mean

    @property
    def spread(self) -> Float[Tensor, ""]:
        """σ."""
        return self.sigma


class GaussianLearned(Likelihood):
    """`likelihood=gaussian_learned`: p(x|z) = N(x; μ(z), σ² I), with one learned σ for all pixels.

    σ = min_sigma + softplus(ρ), so that the density cannot diverge if an image is fitted perfectly (Rybkin et al.
    2021, Simple and effective VAE training with calibrated decoders, section 3).

    Args:
        image_shape: (C, H, W).
        init_sigma: σ at the start. If it is above the spread of the data, nothing is encoded until σ has
            decreased, and latents that collapsed may not recover. So the default is low.
        min_sigma: the lower bound, below `init_sigma`.
    """

    def __init__(self, image_shape: tuple[int, int, int], init_sigma: float = 0.2, min_sigma: float = 0.01):
        super().__init__(image_shape)
        self.raw_sigma = nn.Parameter(torch.tensor(raw_from_sigma(init_sigma, min_sigma)))
        self.min_sigma = float(min_sigma)

    @property
    def sigma(self) -> Float[Tensor, ""]:
        """The current σ."""
        return self.min_sigma + F.softplus(self.raw_sigma)

    def forward(self, params: Float[Tensor, "*N C H W"]) -> Independent:
        """Return p(x|z), of event shape (C, H, W)."""
        return normal(params, self.sigma)

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """Return the decoder output for which the likelihood's mean is `mean`."""
        return mean

    @property
    def spread(self) -> Float[Tensor, ""]:
        """σ."""
        return self.sigma


class GaussianPerPixel(Likelihood):
    """`likelihood=gaussian_per_pixel`: p(x|z) = Π_pixels N(x; μ(z), σ(z)²), both from the decoder.

    σ = min_sigma + softplus(ρ(z)). Without the bound, the density diverges at pixels that never vary (Kingma &
    Welling 2014, appendix C.2; on the divergence, Mattei & Frellsen 2018, section 2).

    Args:
        image_shape: (C, H, W).
        init_sigma: σ of every pixel at the start.
        min_sigma: the lower bound, below `init_sigma`.
    """

    decodes_spread = True

    def __init__(self, image_shape: tuple[int, int, int], init_sigma: float = 0.2, min_sigma: float = 0.05):
        channels, height, width = image_shape
        super().__init__((2 * channels, height, width))
        self.init_raw_sigma, self.min_sigma = raw_from_sigma(init_sigma, min_sigma), min_sigma

    def forward(self, params: Float[Tensor, "*N P H W"]) -> Independent:
        """Return p(x|z), of event shape (C, H, W), from the maps of μ and those of ρ (P = 2C)."""
        mean, raw_sigma = params.chunk(2, dim=-3)
        return normal(mean, self.min_sigma + F.softplus(raw_sigma))

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "P H W"]:
        """Return the decoder output for which the likelihood's mean is `mean`, with σ at its start."""
        return torch.cat((mean, torch.full_like(mean, self.init_raw_sigma)))


def normal(mean: Float[Tensor, "*N C H W"], sigma: Float[Tensor, "..."]) -> Independent:
    """Return N(mean, sigma²) for each pixel, of event shape (C, H, W)."""
    return Independent(Normal(mean, sigma, validate_args=False), 3, validate_args=False)


def raw_from_sigma(init: float, minimum: float, name: str = "sigma") -> float:
    """Return the ρ with minimum + softplus(ρ) = init, for the options init_<name> and min_<name>.

    Raises:
        ConfigError: the minimum is not above 0, or the start is not above the minimum.
    """
    check_number(f"likelihood.min_{name}", minimum, above=0)
    excess = check_number(f"likelihood.init_{name}", init, above=0) - minimum
    if excess <= 0:
        raise ConfigError(f"likelihood.init_{name}={init}: must be above min_{name}={minimum}")
    return excess + math.log(-math.expm1(-excess))
