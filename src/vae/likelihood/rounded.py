"""Continuous variables rounded to the 256 levels of a byte, 0, 1/255, …, 1.

Values below 0 or above 1 count as these levels: P(level x) = F(x + ½/255) − F(x − ½/255), where F is the
distribution function. F is taken as 0 below the lowest level and as 1 above the highest.
"""

import math
from abc import abstractmethod
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

TOP = 255
"""The highest level, at x = 1."""

GAUSS_NODES = (
    (0.0, 64 / 225),
    (math.sqrt(5 - 2 * math.sqrt(10 / 7)) / 3, (322 + 13 * math.sqrt(70)) / 900),
    (math.sqrt(5 + 2 * math.sqrt(10 / 7)) / 3, (322 - 13 * math.sqrt(70)) / 900),
)
"""Nodes ≥ 0 and weights for the mean of an even function over [−1, 1].

They are those of the Gauss–Legendre rule of 5 points.
"""

Shape = Size | list[int] | tuple[int, ...]
"""The types that torch's distributions accept for a shape of samples."""


class Rounded(Distribution):
    """The base class of the rounded variables."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.unit_interval

    @abstractmethod
    def draw(self, shape: Size) -> Float[Tensor, "..."]:
        """Return draws of the variable before it is rounded."""

    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """Return draws of x, each one of the 256 levels."""
        with torch.no_grad():
            return (self.draw(self._extended_shape(Size(sample_shape))).clamp(0, 1) * TOP).round() / TOP


class RoundedNormal(Rounded):
    """N(μ, σ²), rounded."""

    def __init__(self, loc: Float[Tensor, "..."], scale: Float[Tensor, ""]):
        self.loc, self.scale = loc, scale
        super().__init__(loc.shape, validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return ln [Φ(b) − Φ(a)] at the level's two edges a and b.

        One of the edges is infinite at the lowest and at the highest level. The sign is chosen so that a + b ≤ 0,
        and half the width is h = (b − a) / 2. The result is one of three forms. No numbers cancel in any of them,
        so that values and gradients are exact in float32, too:

        * b > 0: ln(1 − Φ(−b) − Φ(a));
        * b ≤ 0: −b²/2 + ln ½[e(b) − e^{−(a² − b²)/2} e(a)] with e(t) = erfcx(−t/√2) = 2Φ(t) e^{t²/2};
        * h ≤ ½ and |a² − b²| ≤ 2, where these would cancel: the integral of the density by 5 Gauss nodes.
        """
        half = 0.5 / (TOP * self.scale)
        centre = (value - self.loc) / self.scale
        first, last = value < 0.5 / TOP, value > 1 - 0.5 / TOP
        ends = first | last
        # The upper edge of the level, or of the mirrored level, in units of σ.
        b = half + torch.where(ends, torch.where(first, centre, -centre), -centre.abs())
        a = b - 2 * half
        exponent = 2 * half * centre.abs()  # (a² − b²) / 2
        narrow = (half <= 0.5) & (exponent <= 1) & ~ends
        tail = (b <= 0) & ~narrow

        in_tail, above = b.masked_fill(~tail, -1.0), exponent.masked_fill(~tail | ends, math.inf)
        below = torch.exp(-above) * _erfcx(a.masked_fill(~tail, -1.0))
        from_tail = torch.log((_erfcx(in_tail) - below) / 2) - in_tail.square() / 2

        beside = torch.special.ndtr(-b) + torch.special.ndtr(a.masked_fill(ends, -math.inf))
        from_middle = torch.log1p(-beside.masked_fill(tail | narrow, 0.0))

        near, width = centre.masked_fill(~narrow, 0.0), half.clamp(max=0.5)
        mean = sum(
            weight * torch.exp(-(width * node).square() / 2) * torch.cosh(width * node * near)
            for node, weight in GAUSS_NODES
        )
        from_integral = torch.log(mean * (2 * half) / math.sqrt(2 * math.pi)) - near.square() / 2
        return torch.where(narrow, from_integral, torch.where(tail, from_tail, from_middle))

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """The mean E[X clipped to [0, 1]] of the unrounded X.

        It differs from the rounded mean by less than 1e-3.
        """
        low, high = -self.loc / self.scale, (1 - self.loc) / self.scale
        phi_low, phi_high = torch.special.ndtr(low), torch.special.ndtr(high)
        density = torch.exp(-low.square() / 2) - torch.exp(-high.square() / 2)
        inside = self.loc * (phi_high - phi_low) + self.scale * density / math.sqrt(2 * math.pi)
        return inside + torch.special.ndtr(-high)

    def draw(self, shape: Size) -> Float[Tensor, "..."]:
        return self.loc + self.scale * torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)


class RoundedLogisticMixture(Rounded):
    """Σ_i π_i Logistic(μ_i, s_i), rounded. The components are the axis before the last three.

    Args:
        loc: μ_i, of shape (…, components, C, H, W).
        scale: s_i.
        log_weight: ln π_i.
    """

    def __init__(
        self,
        loc: Float[Tensor, "*N M C H W"],
        scale: Float[Tensor, "*N M C H W"],
        log_weight: Float[Tensor, "*N M C H W"],
    ):
        self.loc, self.scale, self.log_weight = loc, scale, log_weight
        super().__init__(Size((*loc.shape[:-4], *loc.shape[-3:])), validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return ln Σ_i π_i [sigmoid(b) − sigmoid(a)] at the level's edges a and b.

        The difference is computed as sigmoid(b) sigmoid(−a) (1 − e^{a−b}).
        """
        value = value.unsqueeze(-4)
        log_below = F.logsigmoid((value + 0.5 / TOP - self.loc) / self.scale)  # of the upper edge
        log_above = F.logsigmoid((self.loc - value + 0.5 / TOP) / self.scale)  # of the lower edge
        inside = log_below + log_above + log1mexp(1 / (TOP * self.scale))
        level = torch.where(value < 0.5 / TOP, log_below, torch.where(value > 1 - 0.5 / TOP, log_above, inside))
        return (self.log_weight + level).logsumexp(-4)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """The mean E[X clipped to [0, 1]] of the unrounded X.

        It differs from the rounded mean by less than 1e-3.
        """
        # ∫₀¹ sigmoid((μ − t) / s) dt, the integral of the probability to exceed t.
        clipped = self.scale * (F.softplus(self.loc / self.scale) - F.softplus((self.loc - 1) / self.scale))
        return (self.log_weight.exp() * clipped).sum(-4)

    def draw(self, shape: Size) -> Float[Tensor, "..."]:
        sample_shape = shape[: len(shape) - len(self.batch_shape)]
        full = Size((*sample_shape, *self.loc.shape))
        gumbel = -torch.empty(full, dtype=self.loc.dtype, device=self.loc.device).exponential_().log()
        chosen = (self.log_weight + gumbel).argmax(-4, keepdim=True)
        u = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device)
        loc = self.loc.expand(full).gather(-4, chosen).squeeze(-4)
        return loc + self.scale.expand(full).gather(-4, chosen).squeeze(-4) * torch.logit(u, eps=1e-7)


def _erfcx(t: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return 2 Φ(t) e^{t²/2}, for t ≤ 0."""
    return torch.special.erfcx(t * -math.sqrt(0.5))


def log1mexp(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return ln(1 − e^{−x}) for x ≥ 0 (Mächler 2012, Accurately computing log(1 − exp(−|a|)), equation 7)."""
    x = x.clamp(min=torch.finfo(x.dtype).tiny)
    small = x < math.log(2)
    near, far = torch.where(small, x, torch.ones_like(x)), torch.where(small, torch.ones_like(x), x)
    return torch.where(small, torch.log(-torch.expm1(-near)), torch.log1p(-torch.exp(-far)))
