"""`posterior=diagonal_gaussian`: q(z|x) = N(μ(x), diag σ²(x))."""

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent

from vae.normal import LogScaleNormal
from vae.precision import full_precision


class DiagonalGaussian(nn.Module):
    """q(z|x) = N(z; μ, diag σ²), with μ and ln σ linear in the features.

    Draws are reparameterised, z = μ + σε with ε ~ N(0, I) (Kingma & Welling 2014, section 2.4).

    Args:
        features: F, the width of the encoder's output.
        latent_size: D.
    """

    def __init__(self, features: int, latent_size: int):
        super().__init__()
        self.mean_and_log_scale = nn.Linear(features, 2 * latent_size)

    def forward(self, features: Float[Tensor, "B F"]) -> Independent:
        """The distribution over z, of batch shape (B,) and event shape (D,), in float32 at least."""
        mean, log_scale = full_precision(self.mean_and_log_scale(features)).chunk(2, dim=-1)
        return Independent(LogScaleNormal(mean, log_scale), 1, validate_args=False)
