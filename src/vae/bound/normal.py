"""Normal distributions of the latents with no operation more than their formulas have."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.autograd.function import once_differentiable
from torch.distributions import Normal, register_kl
from torch.distributions.distribution import Distribution

Shape = Size | list[int] | tuple[int, ...]
HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


class LogScaleNormal(Normal):
    """N(μ, σ²) given by μ and ln σ, so that ln σ need not be found again from σ.

    Args:
        loc: μ.
        log_scale: ln σ, of the same shape.
    """

    def __init__(self, loc: Float[Tensor, "*N"], log_scale: Float[Tensor, "*N"]):
        self.loc, self.scale, self.log_scale = loc, log_scale.exp(), log_scale
        Distribution.__init__(self, loc.shape, validate_args=False)

    def expand(self, batch_shape: Shape, _instance: Distribution | None = None) -> "LogScaleNormal":
        return LogScaleNormal(self.loc.expand(batch_shape), self.log_scale.expand(batch_shape))

    def noise(self, sample_shape: Size) -> Float[Tensor, "..."]:
        """ε ~ N(0, 1) for so many draws."""
        return torch.randn(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device)

    def at(self, noise: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """μ + σε."""
        return torch.addcmul(self.loc, self.scale, noise)

    def rsample(self, sample_shape: Shape = Size()) -> Float[Tensor, "..."]:  # noqa: B008 (torch's signature)
        """μ + σε with ε ~ N(0, 1)."""
        return self.at(self.noise(Size(sample_shape)))

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """−½ ((x − μ)/σ)² − ln σ − ½ ln 2π."""
        return -0.5 * ((value - self.loc) / self.scale).square() - self.log_scale - HALF_LOG_2PI


class UnitNormal(Normal):
    """N(0, 1) of each latent.

    Args:
        zero: 0 for each.
        one: 1 for each.
    """

    def __init__(self, zero: Float[Tensor, " D"], one: Float[Tensor, " D"]):
        self.loc, self.scale = zero, one
        Distribution.__init__(self, zero.shape, validate_args=False)

    def expand(self, batch_shape: Shape, _instance: Distribution | None = None) -> "UnitNormal":
        return UnitNormal(self.loc.expand(batch_shape), self.scale.expand(batch_shape))

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """−½ x² − ½ ln 2π."""
        return -0.5 * value.square() - HALF_LOG_2PI


class _KLToUnitNormal(torch.autograd.Function):
    """½ (μ² + σ² − 1 − ln σ²) as a function of μ and ln σ, with the gradients μ and σ² − 1.

    Written out, since torch's graph of the formula costs more than the formula.
    """

    @staticmethod
    def forward(ctx: Any, loc: Tensor, log_scale: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(loc, scale)
        return (loc * loc).addcmul_(scale, scale).sub_(1).mul_(0.5).sub_(log_scale)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        loc, scale = ctx.saved_tensors
        return gradient * loc, (scale * scale).sub_(1).mul_(gradient), None


@register_kl(LogScaleNormal, UnitNormal)
def _kl_to_unit_normal(q: LogScaleNormal, p: UnitNormal) -> Float[Tensor, "*N"]:
    """½ (μ² + σ² − 1 − ln σ²) (Kingma & Welling 2014, appendix B)."""
    return _KLToUnitNormal.apply(q.loc, q.log_scale, q.scale.detach())
