"""`likelihood=continuous_bernoulli`: what the cross-entropy of grey values lacks to be a density."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, constraints

from vae.likelihood.likelihood import Likelihood
from vae.likelihood.rounded import Shape


class ContinuousBernoulli(Likelihood):
    """p(x|z) = Π_pixels C(λ) λ^x (1 − λ)^(1−x) on [0, 1], λ = sigmoid(decoder).

    The Bernoulli's cross-entropy plus log C(λ), which makes it integrate to 1 (Loaiza-Ganem & Cunningham
    2019, The continuous Bernoulli, equations 5–7).

    Args:
        image_shape: (C, H, W).
    """

    support = "unit"

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__(image_shape)

    def forward(self, params: Float[Tensor, "*N C H W"]) -> Independent:
        """p(x|z), of event shape (C, H, W)."""
        return Independent(TiltedUniform(params), 3, validate_args=False)

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """The decoder output at which the likelihood's mean is `mean`, kept within 0.02 of 0 and 1."""
        target = mean.clamp(0.02, 0.98)
        low, high = torch.full_like(mean, -60.0), torch.full_like(mean, 60.0)
        for _ in range(40):  # bisection: the mean rises with the logit
            middle = (low + high) / 2
            above = TiltedUniform(middle).mean > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2


class TiltedUniform(Distribution):
    """p(x) = a e^{ax} / (e^a − 1) on [0, 1]: the continuous Bernoulli by its logit a = ln λ − ln(1 − λ).

    In this form nothing overflows or cancels at any a; torch's own, by λ, is only right for |a| < 16.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Float[Tensor, "..."]):
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """ax − ln((e^a − 1) / a), where ln((e^a − 1) / a) = max(a, 0) + ln((1 − e^{−|a|}) / |a|)."""
        a = self.logits
        small = a.abs() < 1e-2
        size = torch.where(small, torch.ones_like(a), a.abs())
        series = -a.abs() / 2 + a.square() / 24
        log_ratio = torch.where(small, series, torch.log(-torch.expm1(-size)) - size.log())
        return a * value - F.relu(a) - log_ratio

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """1 / (1 − e^{−a}) − 1 / a, which is ½ + a/12 − a³/720 near 0."""
        a = self.logits
        small = a.abs() < 0.1
        safe = torch.where(small, torch.ones_like(a), a)
        return torch.where(small, 0.5 + a / 12 - a**3 / 720, 1 / -torch.expm1(-safe) - 1 / safe)

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """The inverse distribution function at u ~ U(0, 1): of −|a|, turned about ½ where a > 0."""
        a = self.logits.expand(self._extended_shape(Size(sample_shape)))
        u = torch.rand_like(a)
        small = a.abs() < 1e-3
        size = torch.where(small, torch.ones_like(a), a.abs())
        from_zero = -torch.log1p(u * torch.expm1(-size)) / size
        draw = torch.where(small, u, from_zero)
        return torch.where(a > 0, 1 - draw, draw)
