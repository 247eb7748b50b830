"""Importance sampling of log p(x), in memory that depends neither on the number of draws nor on that of images."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vae.bound.allocation import keep_freed_memory
from vae.bound.terms import LatentVariableModel
from vae.progress import advance

ELEMENTS = {"cpu": 2**20, "cuda": 2**27}
"""Decoder outputs that are in memory at a time: on a CPU what its caches hold, on a GPU what keeps it busy."""


@dataclass(frozen=True)
class LogMarginal:
    """log p(x) in nats for each of B images, from k draws, in float64.

    log_px: the estimate. stderr: its Monte Carlo standard error. ess: the effective sample size
    (Σw)² / Σw² of the draws. convergence: the estimate from the first 1, 10, 100, … and from all k of
    the same draws, by their number.
    """

    log_px: Float[Tensor, " B"]
    stderr: Float[Tensor, " B"]
    ess: Float[Tensor, " B"]
    convergence: dict[int, Float[Tensor, " B"]]


def log_marginal(
    model: LatentVariableModel,
    x: Float[Tensor, "B C H W"],
    q: Distribution,
    k: int,
    chunk: int | None = None,
) -> LogMarginal:
    """log p(x) of each image in nats, estimated by importance sampling with exactly k draws.

    log (1/k) Σ_k w_k with w_k = p(x|z_k) p(z_k) / q(z_k|x) (Burda et al. 2016, section 5), encoding once,
    accumulated in float64. A lower bound in expectation, tight as k grows.

    Args:
        model: p(x|z) and p(z).
        x: images.
        q: where the draws come from, of batch shape (B,).
        k: draws for each image.
        chunk: draws that are taken at a time; None for what fits in little memory.
    """
    keep_freed_memory()
    p, elements = model.p_z(), ELEMENTS.get(x.device.type, ELEMENTS["cuda"])
    # A function of sizes alone, so that it is the same everywhere.
    chunk = chunk or max(1, min(elements // (len(x) * q.event_shape.numel()), elements // model.params_per_draw))
    weights = RunningWeights(len(x), x.device)
    for stage in stages(k):
        while weights.k < stage:
            z = q.rsample(torch.Size((min(chunk, stage - weights.k),)))  # (K, B, D)
            images = max(1, elements // (len(z) * model.params_per_draw))
            log_joint = [
                model.decode(some_z).log_prob(some_x) + p.log_prob(some_z)
                for some_x, some_z in zip(x.split(images), z.split(images, dim=1), strict=True)
            ]
            weights.add(torch.cat(log_joint, 1) - q.log_prob(z))
        weights.note()
    return weights.result()


class RunningWeights:
    """log Σw and log Σw² of importance weights that come a few at a time, accumulated in float64.

    The weights are kept relative to the largest so far, so that each needs one exponential and none overflows.
    """

    def __init__(self, images: int, device: torch.device):
        self.k = 0
        self._sum = torch.zeros(images, dtype=torch.float64, device=device)
        self._sum_of_squares = self._sum.clone()
        self._log_largest = torch.full_like(self._sum, torch.finfo(torch.float64).min)
        self.convergence: dict[int, Float[Tensor, " B"]] = {}

    def add(self, log_w: Float[Tensor, "K B"]) -> None:
        """Add the log-weights of K further draws."""
        self.k += len(log_w)
        advance(log_w.numel())
        largest = torch.maximum(self._log_largest, log_w.amax(0))
        shrunk = (self._log_largest - largest).exp()
        w = (log_w - largest).exp_()
        self._sum = self._sum * shrunk + w.sum(0)
        self._sum_of_squares = self._sum_of_squares * shrunk.square() + w.square_().sum(0)
        self._log_largest = largest

    @property
    def log_mean(self) -> Float[Tensor, " B"]:
        """log of the mean weight so far."""
        return self._log_largest + self._sum.log() - math.log(self.k)

    def note(self) -> None:
        """Note the estimate so far in `convergence`."""
        self.convergence[self.k] = self.log_mean

    def result(self) -> LogMarginal:
        """The estimate from all weights so far.

        Its standard error is that of the mean weight over the mean weight (the delta method):
        √((k Σw² / (Σw)² − 1) / (k − 1)), which is not known from a single draw (NaN).
        """
        ess = self._sum.square() / self._sum_of_squares
        excess = (self.k / ess - 1).clamp(min=0)
        stderr = (excess / (self.k - 1)).sqrt() if self.k > 1 else torch.full_like(ess, math.nan)
        return LogMarginal(self.log_mean, stderr, ess, self.convergence)


def stages(k: int) -> list[int]:
    """1, 10, 100, … below k, then k."""
    return [10**power for power in range(len(str(k))) if 10**power < k] + [k]
