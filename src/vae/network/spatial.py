"""`network=spatial`: convolutions all the way, so that z is a grid of vectors (or codes) over the image."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae.bound.maps import as_maps
from vae.checks import ConfigError, check_int
from vae.network.network import Decoder, Encoder
from vae.network.pyramid import Level, PixelBias, double, halve, pyramid


class Residual(nn.Module):
    """h + conv1×1(ReLU(conv3×3(ReLU(h))))."""

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1)
        )

    def forward(self, h: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
        return h + self.layers(h)


class SpatialEncoder(Encoder):
    """Image → maps: 4×4 convolutions of stride 2 down to the grid, then residual blocks.

    The encoder of van den Oord et al. 2017, Neural discrete representation learning, section 4.1, with other
    widths.

    Args:
        image_shape: (C, H, W).
        grid: (h, w), the image's sides halved once or several times, rounding down.
        width: the maps of every layer.
        blocks: residual blocks.
    """

    def __init__(self, image_shape: tuple[int, int, int], grid: Sequence[int], width: int, blocks: int):
        super().__init__()
        levels = _levels(image_shape, grid, width)
        self.features = levels[-1].channels * levels[-1].height * levels[-1].width
        down = [layer for outer, inner in pairwise(levels) for layer in (halve(outer, inner), nn.ReLU())]
        self.layers = nn.Sequential(
            *down,
            nn.Conv2d(width, width, 3, padding=1),
            *(Residual(width) for _ in range(check_int("network.blocks", blocks, minimum=0))),
            nn.ReLU(),
            nn.Flatten(),
        )

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        return self.layers(x)


class SpatialDecoder(Decoder):
    """z → likelihood parameters: its vectors on the grid, residual blocks, then 4×4 transposed convolutions.

    Args:
        latent_size: D, which is h·w vectors of D / (h·w) numbers, one after the other (`vae.bound.maps`).
        param_shape: (P, H, W), what the likelihood asks for.
        grid, width, blocks: the encoder's.

    Raises:
        ConfigError: D is no multiple of h·w.
    """

    def __init__(
        self, latent_size: int, param_shape: tuple[int, int, int], grid: Sequence[int], width: int, blocks: int
    ):
        super().__init__()
        levels = _levels(param_shape, grid, width)
        self.grid = (levels[-1].height, levels[-1].width)
        channels, rest = divmod(latent_size, prod(self.grid))
        if rest or not channels:
            raise ConfigError(
                f"latent_size={latent_size}: must be a multiple of {prod(self.grid)}, so that there is a vector at"
                f" each place of network.grid={list(grid)}"
            )
        outwards = reversed(list(pairwise(levels)))
        up = [layer for outer, inner in outwards for layer in (nn.ReLU(), double(inner, outer))]
        self.output = PixelBias(levels[0])
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            *(Residual(width) for _ in range(check_int("network.blocks", blocks, minimum=0))),
            *up,
            self.output,
        )

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N P H W"]:
        return self.layers(as_maps(z, self.grid))

    @torch.no_grad()
    def set_output_bias(self, params: Float[Tensor, "P H W"]) -> None:
        """Start the output at `params`, so that training need not first find the mean image."""
        self.output.bias.copy_(params)


def _levels(shape: tuple[int, int, int], grid: Sequence[int], width: int) -> list[Level]:
    """Return the sizes from the image down to the grid.

    Raises:
        ConfigError: halving the image's sides does not lead there.
    """
    sides = [check_int("network.grid", side) for side in grid]
    check_int("network.width", width)
    most = max(max(shape[1:]).bit_length() - 1, 1)
    found = [pyramid(shape, width, width, depth) for depth in range(1, most + 1)]
    for levels in found:
        if [levels[-1].height, levels[-1].width] == sides:
            return levels
    allowed = ", ".join(f"[{levels[-1].height},{levels[-1].width}]" for levels in found)
    raise ConfigError(
        f"network.grid={list(grid)}: of images of {shape[1]}×{shape[2]} pixels it must be one of {allowed}"
    )
