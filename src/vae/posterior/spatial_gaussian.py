"""`posterior=spatial_gaussian`: q(z|x) = N(μ(x), diag σ²(x)) of latents that are maps."""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from vae.bound.maps import at_places
from vae.checks import ConfigError, check_int
from vae.posterior.diagonal_gaussian import DiagonalGaussian


class SpatialGaussian(DiagonalGaussian):
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
        super().__init__(features // places, latent_size // places, init_sigma)  # of each place
        self.latent_size, self.grid = latent_size, (height, width)

    def linear(self, features: Float[Tensor, "B F"]) -> tuple[Float[Tensor, "B D"], Float[Tensor, "B D"]]:
        """μ and ln (σ / σ₀)."""
        assert self.grid is not None
        mean, log_scale = super().linear(at_places(features, self.grid))  # (B, h·w, c) each
        return mean.flatten(1), log_scale.flatten(1)
