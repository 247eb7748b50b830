"""`posterior=spatial_gaussian`: q(z|x) = N(μ(x), diag σ²(x)) of latents that are maps."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from vae.bound.maps import at_places
from vae.checks import ConfigError, check_int
from vae.posterior.diagonal_gaussian import LogScaleNormal, log_init_sigma
from vae.posterior.posterior import Posterior


class SpatialGaussian(Posterior):
    """q(z|x) = N(z; μ, diag σ²), where μ and ln (σ / σ₀) at a place are linear in the features at that place.

    The linear map is the same at each place, a 1×1 convolution, so that z says of a place what the encoder saw
    there: the first stage of latent diffusion (Rombach et al. 2022, High-resolution image synthesis with latent
    diffusion models, section 3.1 and appendix G, whose KL term is this one).

    Args:
        features: F, of the encoder's maps on the grid, flattened.
        latent_size: D = c·h·w.
        grid: (h, w).
        init_sigma: σ₀, the approximate σ at the start, see `DiagonalGaussian`.

    Raises:
        ConfigError: there is no grid, or D or F is no multiple of its places.
    """

    def __init__(
        self, features: int, latent_size: int, grid: Sequence[int] | None = None, init_sigma: float = 1.0
    ):
        super().__init__(latent_size)
        if grid is None:
            raise ConfigError(
                "posterior.grid=null: must be [h,w], the sides of the encoder's maps; network=spatial"
            )
        height, width = (check_int("posterior.grid", side) for side in grid)
        places = height * width
        if latent_size % places:
            raise ConfigError(
                f"latent_size={latent_size}: must be a multiple of {places}, the places of"
                f" posterior.grid={list(grid)}"
            )
        if features % places:
            raise ConfigError(
                f"posterior.grid={list(grid)}: the encoder's {features} features are no maps of {height}×{width};"
                " use network=spatial"
            )
        self.grid = (height, width)
        self.log_init_sigma = log_init_sigma(init_sigma)
        self.mean_and_log_scale = nn.Linear(features // places, 2 * latent_size // places)

    def forward(self, features: Float[Tensor, "B F"]) -> Independent:
        """q(z|x), of batch shape (B,) and event shape (D,)."""
        assert self.grid is not None
        parameters = self.mean_and_log_scale(at_places(features, self.grid))  # (B, h·w, 2c)
        mean, log_scale = (each.flatten(1) for each in parameters.chunk(2, dim=-1))  # (B, D) each
        return Independent(LogScaleNormal(mean, log_scale + self.log_init_sigma), 1, validate_args=False)

    def noise(self, k: int, images: int) -> Float[Tensor, "K B D"]:
        """ε ~ N(0, I)."""
        weight = self.mean_and_log_scale.weight
        return torch.randn(k, images, self.latent_size, dtype=weight.dtype, device=weight.device)

    def draw(self, q: Distribution, noise: Float[Tensor, "K B D"]) -> Float[Tensor, "K B D"]:
        """z = μ + σε."""
        assert isinstance(q, Independent)
        return q.base_dist.at(noise)
