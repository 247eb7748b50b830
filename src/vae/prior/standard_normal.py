"""`prior=standard_normal`: p(z) = N(0, I)."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, Normal, register_kl

from vae.prior.prior import Prior

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class StandardNormal(Prior):
    """The prior p(z) = N(z; 0, I).

    Args:
        latent_size: D.
        image_shape: (C, H, W); used only by priors that are built from images.
    """

    zero: Tensor
    one: Tensor

    def __init__(self, latent_size: int, image_shape: tuple[int, int, int]):
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent_size), persistent=False)
        self.register_buffer("one", torch.ones(latent_size), persistent=False)

    def forward(self, encode: Callable[[Tensor], Distribution]) -> Independent:
        """Return p(z), of event shape (D,). `encode` is not used by this prior."""
        return Independent(UnitNormal(self.zero, self.one), 1, validate_args=False)


class UnitNormal(Normal):
    """N(0, 1) for each latent.

    Args:
        zero: 0 for each.
        one: 1 for each.
    """

    def __init__(self, zero: Float[Tensor, "*N"], one: Float[Tensor, "*N"]):
        self.loc, self.scale = zero, one
        Distribution.__init__(self, zero.shape, validate_args=False)

    def expand(
        self, batch_shape: Size | list[int] | tuple[int, ...], _instance: Distribution | None = None
    ) -> "UnitNormal":
        return UnitNormal(self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return −½ x² − ½ ln 2π."""
        return -0.5 * value.square() - HALF_LOG_2PI


@register_kl(Normal, UnitNormal)
def _kl_to_unit_normal(q: Normal, p: UnitNormal) -> Float[Tensor, "*N"]:
    """Return ½ (μ² + σ² − 1 − ln σ²) (Kingma & Welling 2014, appendix B).

    The entropy that it uses is ln σ + ½ (1 + ln 2π).
    """
    return 0.5 * (q.loc.square() + q.scale.square()) + HALF_LOG_2PI - q.entropy()
