"""`posterior=finite_scalar`: each number of a vector rounded to a few levels."""

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vae.bound.codes import PointCode
from vae.checks import ConfigError, check_int
from vae.posterior.quantized import Quantized


class FiniteScalar(Quantized):
    """z_ij = round(f_j(e_ij)) / ⌊L_j/2⌋, where f_j is a tanh that is stretched over L_j whole numbers.

    K = Π_j L_j codes without a codebook, so that there is nothing to be learned of it, no further loss, and no
    dead code to begin with (Mentzer et al. 2023, Finite scalar quantization: VQ-VAE made simple, section 3.1 and
    appendix A). The gradient passes through the rounding as it is.

    Args:
        features: F, the width of the encoder's output.
        latent_size: n, the number of codes.
        levels: L, of each number of a vector; the paper takes none below 5.
        grid: (h, w), see `Quantized`.
    """

    def __init__(
        self,
        features: int,
        latent_size: int,
        levels: Sequence[int] = (5, 5, 5),
        grid: Sequence[int] | None = None,
    ):
        if isinstance(levels, str) or not isinstance(levels, Sequence) or not levels:
            raise ConfigError(f"posterior.levels={levels}: must be a list of whole numbers, as in [8,5,5,5]")
        counts = [check_int("posterior.levels", level, minimum=2) for level in levels]
        if prod(counts) > 2**24:
            raise ConfigError(f"posterior.levels={list(levels)}: are {prod(counts)} codes, at most 2^24 may be")
        super().__init__(features, latent_size, prod(counts), len(counts), grid)
        below = [prod(counts[:j]) for j in range(len(counts))]
        self.register_buffer("levels", torch.tensor(counts), persistent=False)
        self.register_buffer("place_values", torch.tensor(below), persistent=False)

    levels: Tensor
    place_values: Tensor
    images_needed = 1000

    @torch.no_grad()
    def start_from_features(self, features: Float[Tensor, "N F"]) -> None:
        """Scale the linear map so that each number has mean 0 and deviation 1 over training images.

        Far below, all of them are rounded to 0 at first, and the decoder learns to do without (such a start is
        that of Salimans & Kingma 2016, Weight normalization, section 3).
        """
        e = self.vectors_of(features)
        over = (0, 1) if self.grid else (0,)
        mean, scale = e.mean(over).flatten(), e.std(over).flatten().clamp(min=1e-6)
        self.project.weight.div_(scale[:, None])
        self.project.bias.sub_(mean).div_(scale)

    def forward(self, features: Float[Tensor, "B F"]) -> PointCode:
        """q(z|x), of batch shape (B,) and event shape (D,)."""
        e = self.bounded(self.vectors_of(features)) / self._half
        return self.point(e, self.codes_of(e.flatten(1)))

    def bounded(self, e: Float[Tensor, "*N d"]) -> Float[Tensor, "*N d"]:
        """f_j(e_j), whose roundings are −⌊L_j/2⌋, …, ⌈L_j/2⌉ − 1; 0 at e = 0."""
        half = (self.levels - 1) * (1 + 1e-3) / 2
        offset = torch.where(self.levels % 2 == 0, 0.5, 0.0).to(e)
        shift = (offset / half).atanh()
        return (e + shift).tanh() * half - offset

    @property
    def _half(self) -> Int64[Tensor, " d"]:
        return self.levels // 2

    def vectors(self, codes: Int64[Tensor, "*N n"]) -> Float[Tensor, "*N D"]:
        """Return the rounded numbers of each code, in [−1, 1]."""
        digits = codes.unsqueeze(-1) // self.place_values % self.levels
        return ((digits - self._half) / self._half).flatten(-2)

    def codes_of(self, z: Float[Tensor, "*N D"]) -> Int64[Tensor, "*N n"]:
        """Return the codes whose numbers are nearest to those of z."""
        digits = (z.detach().unflatten(-1, (-1, self.width)) * self._half).round().long() + self._half
        return (torch.minimum(digits.clamp(min=0), self.levels - 1) * self.place_values).sum(-1)
