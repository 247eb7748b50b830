"""`likelihood=continuous_bernoulli`: the cross-entropy of grey values, normalised to be a density."""

from collections.abc import Sequence
from functools import reduce
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

    log p(x|z) is the log-probability of the Bernoulli plus log C(λ), which makes the density integrate to 1
    (Loaiza-Ganem & Cunningham 2019, The continuous Bernoulli, equations 5–7).

    Args:
        image_shape: (C, H, W).
    """

    support = "unit"

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__(image_shape)

    def forward(self, params: Float[Tensor, "*N C H W"]) -> Independent:
        """Return p(x|z), of event shape (C, H, W)."""
        return Independent(TiltedUniform(params), 3, validate_args=False)

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """Return the decoder output for which the likelihood's mean is `mean`, kept within 0.02 of 0 and 1."""
        target = mean.clamp(0.02, 0.98)
        low, high = torch.full_like(mean, -60.0), torch.full_like(mean, 60.0)
        for _ in range(40):  # bisection: the mean rises with the logit
            middle = (low + high) / 2
            above = TiltedUniform(middle).mean > target
            low, high = torch.where(above, low, middle), torch.where(above, middle, high)
        return (low + high) / 2


class TiltedUniform(Distribution):
    """p(x) = a e^{ax} / (e^a − 1) on [0, 1]: the continuous Bernoulli by its logit a = ln λ − ln(1 − λ).

    In this form, nothing overflows or cancels at any a. torch's own class uses λ and is correct only for |a| < 16.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.unit_interval
    has_rsample = True

    def __init__(self, logits: Float[Tensor, "..."]):
        self.logits = logits
        super().__init__(logits.shape, validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return ax − ln((e^a − 1) / a), where ln((e^a − 1) / a) = max(a, 0) + ln((1 − e^{−|a|}) / |a|).

        Near 0, the gradient of this form cancels. There it is a/2 + ln(sinh(y) / y), y = a/2, as a series.
        """
        is_near, near, far = _divided(self.logits, 0.5)
        square = near.square() / 4
        series = near / 2 + square * _polynomial(square, (1 / 6, -1 / 180, 1 / 2835, -1 / 37800, 1 / 467775))
        log_ratio = F.relu(far) + torch.log(-torch.expm1(-far.abs())) - far.abs().log()
        return self.logits * value - torch.where(is_near, series, log_ratio)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """The mean 1 / (1 − e^{−a}) − 1 / a.

        Near 0 it is computed as the series of ½ + (coth y − 1/y) / 2, y = a/2.
        """
        is_near, near, far = _divided(self.logits, 0.5)
        odd = near / 2 * _polynomial(near.square() / 4, (1 / 3, -1 / 45, 2 / 945, -1 / 4725, 2 / 93555))
        return torch.where(is_near, 0.5 + odd / 2, 1 / -torch.expm1(-far) - 1 / far)

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """Return draws by the inverse distribution function ln(1 + u (e^a − 1)) / a at u ~ U(0, 1).

        The function is computed for −|a| and mirrored around ½ if a > 0. Near 0 it is a series, by the cumulants
        of u.
        """
        a = self.logits.expand(self._extended_shape(Size(sample_shape)))
        u = torch.rand_like(a)
        is_near, near, far = _divided(a, 0.05)
        variance = u * (1 - u)
        series = u + variance * near * _polynomial(near, (1 / 2, (1 - 2 * u) / 6, (1 - 6 * variance) / 24))
        below = -torch.log1p(u * torch.expm1(-far.abs())) / far.abs()
        return torch.where(is_near, series, torch.where(a > 0, 1 - below, below))


def _divided(a: Tensor, limit: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return whether |a| is below a limit, and two tensors for the two cases.

    The first tensor is a where |a| is below the limit, else 0. The second one is a where |a| is not below it, else
    1.
    """
    is_near = a.abs() < limit
    return is_near, a.masked_fill(~is_near, 0.0), a.masked_fill(is_near, 1.0)


def _polynomial(t: Tensor, coefficients: Sequence[float | Tensor]) -> Tensor:
    """Return Σ_i c_i t^i, by Horner's rule."""
    return reduce(lambda total, c: total * t + c, reversed(coefficients))  # type: ignore[return-value]
