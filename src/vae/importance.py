"""Importance sampling of log p(x), in memory that depends neither on the number of draws nor on that of images."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

ELEMENTS = {"cpu": 2**21, "cuda": 2**27}
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


class RunningWeights:
    """log Σw and log Σw² of importance weights that come a few at a time, accumulated in float64."""

    def __init__(self, images: int, device: torch.device):
        self.k = 0
        self.log_sum = torch.full((images,), -math.inf, dtype=torch.float64, device=device)
        self.log_sum_squares = self.log_sum.clone()
        self.convergence: dict[int, Float[Tensor, " B"]] = {}

    def add(self, log_w: Float[Tensor, "K B"]) -> None:
        """Add the log-weights of K further draws."""
        log_w = log_w.double()
        self.k += len(log_w)
        self.log_sum = torch.logaddexp(self.log_sum, log_w.logsumexp(0))
        self.log_sum_squares = torch.logaddexp(self.log_sum_squares, (2 * log_w).logsumexp(0))

    def note(self) -> None:
        """Note the estimate so far in `convergence`."""
        self.convergence[self.k] = self.log_sum - math.log(self.k)

    def result(self) -> LogMarginal:
        """The estimate from all weights so far.

        Its standard error is that of the mean weight over the mean weight (the delta method):
        √((k Σw² / (Σw)² − 1) / (k − 1)), which is not known from a single draw (NaN).
        """
        ess = (2 * self.log_sum - self.log_sum_squares).exp()
        excess = (self.k / ess - 1).clamp(min=0)
        stderr = (excess / (self.k - 1)).sqrt() if self.k > 1 else torch.full_like(ess, math.nan)
        return LogMarginal(self.log_sum - math.log(self.k), stderr, ess, self.convergence)


def stages(k: int) -> list[int]:
    """1, 10, 100, … below k, then k."""
    return [10**power for power in range(len(str(k))) if 10**power < k] + [k]


def auto_chunk(images: int, params: int, device: torch.device) -> int:
    """How many draws of z to decode at a time: a function of sizes alone, so that it is the same everywhere.

    Args:
        images: B.
        params: decoder outputs for each draw.
        device: where they are.
    """
    return max(1, ELEMENTS.get(device.type, ELEMENTS["cuda"]) // (images * params))
