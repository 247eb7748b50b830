"""`posterior=full_gaussian`: q(z|x) = N(μ(x), L(x) L(x)ᵀ)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal
from torch.distributions.kl import register_kl

from vae.checks import check_number
from vae.posterior.posterior import Posterior


class FullGaussian(Posterior):
    """q(z|x) = N(z; μ, L Lᵀ), with μ and the lower triangle of L / σ₀ linear in the features.

    For the diagonal of L / σ₀, the linear output is the logarithm. Draws are z = μ + Lε (Kingma & Welling 2019, An
    introduction to variational autoencoders, section 2.5.1).

    Args:
        features: F, the width of the encoder's output.
        latent_size: D.
        init_sigma: σ₀, the approximate diagonal of L at the start, see `DiagonalGaussian`.
    """

    def __init__(self, features: int, latent_size: int, init_sigma: float = 1.0):
        super().__init__(latent_size)
        self.init_sigma = check_number("posterior.init_sigma", init_sigma, above=0)
        below = latent_size * (latent_size - 1) // 2
        self.mean_and_triangle = nn.Linear(features, 2 * latent_size + below)
        rows, columns = torch.tril_indices(latent_size, latent_size, offset=-1)
        self.register_buffer("positions", rows * latent_size + columns, persistent=False)

    positions: Tensor

    def forward(self, features: Float[Tensor, "B F"]) -> MultivariateNormal:
        """Return q(z|x), of batch shape (B,) and event shape (D,)."""
        d = self.latent_size
        mean, log_diagonal, below = self.mean_and_triangle(features).split((d, d, d * (d - 1) // 2), dim=-1)
        triangle = torch.zeros_like(mean).repeat(1, d).index_copy(1, self.positions, below).unflatten(1, (d, d))
        scale = self.init_sigma * (triangle + torch.diag_embed(log_diagonal.exp()))
        return MultivariateNormal(mean, scale_tril=scale, validate_args=False)

    def noise(self, k: int, images: int) -> Float[Tensor, "K B D"]:
        """Draw ε ~ N(0, I)."""
        weight = self.mean_and_triangle.weight
        return torch.randn(k, images, self.latent_size, dtype=weight.dtype, device=weight.device)

    def draw(self, q: Distribution, noise: Float[Tensor, "K B D"]) -> Float[Tensor, "K B D"]:
        """Return z = μ + Lε."""
        assert isinstance(q, MultivariateNormal)
        return q.loc + (q.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)


@register_kl(MultivariateNormal, Independent)
def _kl_to_independent_normals(q: MultivariateNormal, p: Independent) -> Float[Tensor, "..."]:
    """Return KL(q‖p) for p = N(m, diag s²).

    It is ½ [Σ_ij (L_ij / s_i)² + Σ_i ((μ_i − m_i) / s_i)² − D] + Σ_i (ln s_i − ln L_ii).
    """
    if not isinstance(p.base_dist, Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    scale = p.base_dist.scale
    trace = (q.scale_tril / scale.unsqueeze(-1)).square().sum((-2, -1))
    distance = ((q.loc - p.base_dist.loc) / scale).square().sum(-1)
    log_determinants = scale.log().sum(-1) - q.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    return 0.5 * (trace + distance - q.loc.shape[-1]) + log_determinants
