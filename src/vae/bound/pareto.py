"""k̂: whether importance weights have a mean and a variance that so many draws can find.

The largest of many weights have nearly a generalised Pareto distribution (Pickands 1975), whose shape says how
many of the weights' moments are finite: the first 1/k̂. Below 0.5 they have a variance; from 0.7 on a mean of them
is not to be relied on, however small its standard error (Vehtari et al. 2024, Pareto smoothed importance
sampling).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

UNRELIABLE = 0.7
"""The k̂ from which on an estimate is not to be relied on."""
FEWEST = 5
"""Of the largest weights; fewer have no shape."""


def tail_size(k: int) -> int:
    """Return how many of k weights are the tail: min(k/5, 3√k) (Vehtari et al. 2024, section 2)."""
    return math.ceil(min(k / 5, 3 * math.sqrt(k)))


def pareto_k(log_top: Float[Tensor, "M B"], k: int) -> Float[Tensor, " B"]:
    """k̂ of each image's weights; NaN where they are too few, −∞ where the largest are all alike.

    Args:
        log_top: the largest log-weights, from the largest on, one more than the tail has.
        k: the number of all weights.
    """
    tail = tail_size(k)
    if tail < FEWEST or len(log_top) <= tail:
        return torch.full_like(log_top[0], math.nan)
    weights = (log_top - log_top[0]).exp()
    excess = (weights[:tail] - weights[tail]).flip(0)  # ascending
    alike = excess[-1] < 1e-9
    shape = generalized_pareto_shape(excess.masked_fill(alike, 1.0))
    return shape.masked_fill(alike, -math.inf)


def generalized_pareto_shape(x: Float[Tensor, "N B"]) -> Float[Tensor, " B"]:
    """Return the shape k of F(x) = 1 − (1 + k x/σ)^{−1/k} that fits N values, of each column.

    By the mean over the profile likelihood of b = −k/σ (Zhang & Stephens 2009, A new and efficient estimation
    method for the generalized Pareto distribution, section 3), drawn a little towards ½ as Vehtari et al. 2024 do
    (appendix C).

    Args:
        x: values ≥ 0, ascending.
    """
    n, points = len(x), 30 + math.isqrt(len(x))
    place = torch.arange(1, points + 1, dtype=x.dtype, device=x.device)[:, None]
    quartile = x[int(n / 4 + 0.5) - 1].clamp(min=torch.finfo(x.dtype).tiny)
    b = 1 / x[-1] + (1 - (points / (place - 0.5)).sqrt()) / (3 * quartile)  # (points, B)
    shape = torch.stack([torch.log1p(-each * x).mean(0) for each in b])
    likelihood = n * (torch.log(-b / shape) - shape - 1)
    b = (likelihood.softmax(0) * b).sum(0)
    return (n * torch.log1p(-b * x).mean(0) + 5) / (n + 10)
