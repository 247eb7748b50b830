"""What the posteriors with one code for each image share: vectors on a grid, each replaced by the nearest of K."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from vae.bound.codes import Codes, PointCode
from vae.bound.maps import at_places
from vae.checks import ConfigError, check_int
from vae.posterior.posterior import Posterior


class Quantized(Posterior):
    """Features → n vectors e_i of d numbers → the code of each → z, the vectors of the codes.

    q(z|x) is 1 at that z, and its rate is −log p(c). With a `grid` the features are maps on it, of which each
    place becomes a vector by the same linear map; without one all vectors are linear in all features.

    Args:
        features: F, the width of the encoder's output.
        latent_size: n, the number of codes.
        classes: K.
        width: d.
        grid: (h, w) with h·w = n, or None for a plain vector of codes.

    Raises:
        ConfigError: the grid has not n places, or the features are no maps on it.
    """

    codes: Codes
    deterministic = True

    def __init__(self, features: int, latent_size: int, classes: int, width: int, grid: Sequence[int] | None):
        super().__init__(latent_size * width)
        height, columns = (1, latent_size) if grid is None else grid
        check_int("posterior.grid", height)
        check_int("posterior.grid", columns)
        if height * columns != latent_size:
            raise ConfigError(
                f"latent_size={latent_size}: must be {height * columns}, the codes on a grid of {height}×{columns}"
            )
        if grid is not None and features % latent_size:
            raise ConfigError(
                f"posterior.grid={list(grid)}: the encoder's {features} features are no maps of"
                f" {height}×{columns}; use network=spatial, or posterior.grid=null"
            )
        self.codes, self.width = Codes(height, columns, classes), width
        self.grid = None if grid is None else (height, columns)
        self.project = (
            nn.Linear(features // latent_size, width) if self.grid else nn.Linear(features, self.latent_size)
        )

    def vectors_of(self, features: Float[Tensor, "B F"]) -> Float[Tensor, "B n d"]:
        """Return the vectors before they are replaced."""
        if self.grid is not None:
            return self.project(at_places(features, self.grid))
        return self.project(features).unflatten(1, (-1, self.width))

    def point(self, e: Float[Tensor, "B n d"], codes: Int64[Tensor, "B n"]) -> PointCode:
        """q(z|x) at these codes, the gradient to z passed to e as it is (straight through)."""
        z = self.vectors(codes).detach() + (e - e.detach()).flatten(1)  # in this order exactly the code's vectors
        return PointCode(z, codes, e)

    @abstractmethod
    def forward(self, features: Float[Tensor, "B F"]) -> PointCode:
        """q(z|x), of batch shape (B,) and event shape (D,)."""

    def noise(self, k: int, images: int) -> Float[Tensor, "K B 0"]:
        """Nothing."""
        return self.project.weight.new_empty(k, images, 0)


def nearest(e: Float[Tensor, "N d"], vectors: Float[Tensor, "K d"]) -> Int64[Tensor, " N"]:
    """Return which of the vectors is the nearest to each e."""
    with torch.no_grad():
        return (vectors.square().sum(1) - 2 * e @ vectors.T).argmin(1)
