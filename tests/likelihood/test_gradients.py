"""Log-densities and their gradients are those of mpmath in float32, over the whole range of arguments."""

from collections.abc import Callable
from functools import partial

import mpmath
import pytest
import torch
from mpmath import mp, mpf
from torch import Tensor

from vae.likelihood.bernoulli import IndependentBernoulli
from vae.likelihood.continuous_bernoulli import TiltedUniform
from vae.likelihood.gaussian import normal
from vae.likelihood.rounded import RoundedLogisticMixture, RoundedNormal

mp.dps = 60
LEVELS = [0.0, 1 / 255, 100 / 255, 254 / 255, 1.0]
MEANS = [-3.0, 0.0, 0.001, 100 / 255, 0.395, 0.9, 1.0, 2.0]
SIGMAS = [1e-5, 1e-4, 1e-3, 0.003, 0.02, 0.1, 1.0, 30.0]
LOGITS = [-200.0, -20.0, -3.0, -0.6, -0.4, -1e-3, -1e-7, 0.0, 1e-5, 0.04, 0.06, 0.49, 0.51, 5.0, 30.0, 300.0]


def _rounded(below: Callable[[mpf], mpf], x: mpf, loc: mpf, scale: mpf) -> mpf:
    """ln of the probability of a level, of a variable with a distribution function that is symmetric about 0."""
    half = mpf(1) / 510
    if x < half or x > 1 - half:
        return mpmath.log(below((half - loc) / scale if x < half else (loc - 1 + half) / scale))
    sign = 1 if x < loc else -1  # towards the tail in which the function does not come near to 1
    edges = [below(sign * (x + end - loc) / scale) for end in (half, -half)]
    return mpmath.log(abs(edges[0] - edges[1]))


def _continuous_bernoulli(x: mpf, a: mpf) -> mpf:
    return a * x - (mpmath.log(mpmath.expm1(a) / a) if a else mpf(0))


def _logistic(x: Tensor, loc: Tensor, scale: Tensor) -> Tensor:
    loc, scale = (value.reshape(1, 1, 1, 1) for value in (loc, scale))
    return RoundedLogisticMixture(loc, scale, torch.zeros_like(loc)).log_prob(x.reshape(1, 1, 1)).sum()


def _one_pixel(x: Tensor) -> Tensor:
    return x.reshape(1, 1, 1)


SPREADS = [(mean, sigma) for mean in MEANS for sigma in SIGMAS]
DENSITIES = {
    "discretized_gaussian": (
        lambda x, m, s: RoundedNormal(m, s).log_prob(x),
        partial(_rounded, mpmath.ncdf),
        SPREADS,
    ),
    "discretized_logistic": (_logistic, partial(_rounded, lambda t: 1 / (1 + mpmath.exp(-t))), SPREADS),
    "gaussian": (
        lambda x, m, s: normal(_one_pixel(m), s).log_prob(_one_pixel(x)),
        lambda x, m, s: -(((x - m) / s) ** 2) / 2 - mpmath.log(s) - mpmath.log(2 * mpmath.pi) / 2,
        SPREADS,
    ),
    "bernoulli": (
        lambda x, a: IndependentBernoulli(_one_pixel(a)).log_prob(_one_pixel(x)),
        lambda x, a: a * x - mpmath.log1p(mpmath.exp(a)),
        [(a,) for a in LOGITS],
    ),
    "continuous_bernoulli": (
        lambda x, a: TiltedUniform(a).log_prob(x),
        _continuous_bernoulli,
        [(a,) for a in LOGITS],
    ),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_log_densities_and_gradients_are_those_of_mpmath(name: str) -> None:
    ours, exact, arguments = DENSITIES[name]
    for x in LEVELS:
        for given in arguments:
            tensors = [torch.tensor(value, requires_grad=True) for value in given]
            log_p = ours(torch.tensor(x), *tensors)
            gradients = torch.autograd.grad(log_p, tensors)
            exactly = [mpf(tensor.item()) for tensor in (torch.tensor(x), *(t.detach() for t in tensors))]
            wanted = [exact(*exactly), *_gradients(exact, exactly)]
            # What the rounding of x − μ alone does to each.
            moved = [exactly[0], exactly[1] + mpf(2e-7), *exactly[2:]]
            off = [exact(*moved), *_gradients(exact, moved)]
            for value, right, other in zip((log_p.detach(), *gradients), wanted, off, strict=True):
                slack = 2e-5 * abs(right) + 1e-6 + abs(other - right)
                assert abs(mpf(value.item()) - right) <= slack, (x, given, value.item(), float(right))


def _gradients(function: Callable[..., mpf], at: list[mpf]) -> list[mpf]:
    """By central differences, at a step that 60 digits allow."""
    step = mpf(10) ** -18
    found = []
    for place in range(1, len(at)):
        up, down = list(at), list(at)
        up[place], down[place] = at[place] + step, at[place] - step
        found.append((function(*up) - function(*down)) / (2 * step))
    return found
