"""`posterior=diagonal_gaussian`: q(z|x) = N(μ(x), diag σ²(x))."""

import math

import torch
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from vae.checks import check_number
from vae.posterior.posterior import Posterior

Shape = Size | list[int] | tuple[int, ...]
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class DiagonalGaussian(Posterior):
    """q(z|x) = N(z; μ, diag σ²), with μ and ln (σ / σ₀) linear in the features.

    Draws are reparameterised, z = μ + σε with ε ~ N(0, I) (Kingma & Welling 2014, section 2.4).

    Args:
        features: F, the width of the encoder's output.
        latent_size: D.
        init_sigma: σ₀, the approximate σ at the start. If it is far below 1, a latent gives the decoder much
            information from the first step, before the KL term makes it inactive.
    """

    def __init__(self, features: int, latent_size: int, init_sigma: float = 1.0):
        super().__init__(latent_size)
        self.log_init_sigma = log_init_sigma(init_sigma)
        self.mean_and_log_scale = nn.Linear(features, 2 * latent_size)

    def forward(self, features: Float[Tensor, "B F"]) -> Independent:
        """Return q(z|x), of batch shape (B,) and event shape (D,)."""
        mean, log_scale = self.linear(features)
        # In a stack whose members start differently it is a tensor.
        if not isinstance(self.log_init_sigma, float) or self.log_init_sigma != 0:
            log_scale = log_scale + self.log_init_sigma
        return Independent(LogScaleNormal(mean, log_scale), 1, validate_args=False)

    def linear(self, features: Float[Tensor, "B ..."]) -> tuple[Float[Tensor, "B ..."], Float[Tensor, "B ..."]]:
        """Return μ and ln (σ / σ₀)."""
        mean, log_scale = self.mean_and_log_scale(features).chunk(2, dim=-1)
        return mean, log_scale

    def noise(self, k: int, images: int) -> Float[Tensor, "K B D"]:
        """Draw ε ~ N(0, I)."""
        weight = self.mean_and_log_scale.weight
        return torch.randn(k, images, self.latent_size, dtype=weight.dtype, device=weight.device)

    def draw(self, q: Distribution, noise: Float[Tensor, "K B D"]) -> Float[Tensor, "K B D"]:
        """Return z = μ + σε."""
        assert isinstance(q, Independent)
        return q.base_dist.at(noise)


class LogScaleNormal(Normal):
    """N(μ, σ²) given by μ and ln σ, so that ln σ need not be computed from σ.

    Args:
        loc: μ.
        log_scale: ln σ, of the same shape.
    """

    def __init__(self, loc: Float[Tensor, "*N"], log_scale: Float[Tensor, "*N"]):
        self.loc, self.scale, self.log_scale = loc, log_scale.exp(), log_scale
        Distribution.__init__(self, loc.shape, validate_args=False)

    def expand(self, batch_shape: Shape, _instance: Distribution | None = None) -> "LogScaleNormal":
        return LogScaleNormal(self.loc.expand(batch_shape), self.log_scale.expand(batch_shape))

    def at(self, noise: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return μ + σε."""
        return torch.addcmul(self.loc, self.scale, noise)

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """Return μ + σε with ε ~ N(0, 1)."""
        shape = self._extended_shape(Size(sample_shape))
        return self.at(torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device))

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return −½ ((x − μ)/σ)² − ln σ − ½ ln 2π."""
        return -0.5 * ((value - self.loc) / self.scale).square() - self.log_scale - HALF_LOG_2PI

    def entropy(self) -> Float[Tensor, "*N"]:
        """Return ln σ + ½ (1 + ln 2π)."""
        return self.log_scale + (0.5 + HALF_LOG_2PI)


def log_init_sigma(init_sigma: float) -> float:
    """Return ln σ₀.

    Raises:
        ConfigError: σ₀ is not above 0.
    """
    return math.log(check_number("posterior.init_sigma", init_sigma, above=0))
