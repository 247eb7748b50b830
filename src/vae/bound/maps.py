"""Latents on a grid over the image: z as one vector, place after place, and as maps c×h×w."""

from math import prod

from jaxtyping import Float
from torch import Tensor

Grid = tuple[int, int]
"""(h, w)."""


def as_maps(z: Float[Tensor, "*N D"], grid: Grid) -> Float[Tensor, "*N c h w"]:
    """Return the maps of z, which has c = D / (h·w) numbers for each place of the grid, in raster order."""
    return z.unflatten(-1, (*grid, -1)).movedim(-1, -3)


def as_vector(maps: Float[Tensor, "*N c h w"]) -> Float[Tensor, "*N D"]:
    """z of its maps."""
    return maps.movedim(-3, -1).flatten(-3)


def at_places(features: Float[Tensor, "B F"], grid: Grid) -> Float[Tensor, "B n f"]:
    """Return the features at each place of maps on the grid, which an encoder gives flattened."""
    return features.unflatten(1, (-1, prod(grid))).mT
