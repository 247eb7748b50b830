"""`posterior=diagonal_gaussian`: q(z|x) = N(μ(x), diag σ²(x))."""

import math

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent

from vae.bound.normal import LogScaleNormal
from vae.bound.precision import full_precision
from vae.checks import check_number


def log_init_sigma(init_sigma: float) -> float:
    """ln σ₀.

    Raises:
        ConfigError: it is not above 0.
    """
    return math.log(check_number("posterior.init_sigma", init_sigma, above=0))


class DiagonalGaussian(nn.Module):
    """q(z|x) = N(z; μ, diag σ²), with μ and ln (σ / σ₀) linear in the features.

    Draws are reparameterised, z = μ + σε with ε ~ N(0, I) (Kingma & Welling 2014, section 2.4).

    Args:
        features: F, the width of the encoder's output.
        latent_size: D.
        init_sigma: σ₀, about which σ is at the start. Far below 1, a latent tells the decoder much from the first
            step, before the KL has driven it asleep.
    """

    def __init__(self, features: int, latent_size: int, init_sigma: float = 1.0):
        super().__init__()
        self.log_init_sigma = log_init_sigma(init_sigma)
        self.mean_and_log_scale = nn.Linear(features, 2 * latent_size)

    def forward(self, features: Float[Tensor, "B F"]) -> Independent:
        """The distribution over z, of batch shape (B,) and event shape (D,), in float32 at least."""
        mean, log_scale = full_precision(self.mean_and_log_scale(features)).chunk(2, dim=-1)
        if self.log_init_sigma:
            log_scale = log_scale + self.log_init_sigma
        return Independent(LogScaleNormal(mean, log_scale), 1, validate_args=False)
