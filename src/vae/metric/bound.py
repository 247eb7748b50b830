"""The ELBO and its two parts, and the importance-sampled likelihood, as means over images."""

import math
from math import prod

import torch
from torch import Tensor
from torchmetrics import Metric

from vae.checks import check_int
from vae.metric.evaluation import Evaluation, Sizes


class Bound(Metric):
    """elbo = −(distortion + rate) at β = 1, each a mean over images in nats; bits_per_dim = −elbo / (C·H·W·ln 2).

    `loss` is the mean of what the objective minimises (with its β, free bits and so on).
    Bits are reported only where the likelihood is a probability over the values that x takes.
    """

    full_state_update = False
    loss: Tensor
    distortion: Tensor
    rate: Tensor
    count: Tensor

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        for name in ("loss", "distortion", "rate", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, batch: Evaluation) -> None:
        """Add one batch."""
        self.loss += batch.loss.double() * len(batch.x)
        self.distortion += batch.terms.distortion.sum(dtype=torch.float64)
        self.rate += batch.terms.rate.sum(dtype=torch.float64)
        self.count += len(batch.x)

    def compute(self) -> dict[str, Tensor]:
        """The means so far."""
        distortion, rate = self.distortion / self.count, self.rate / self.count
        means = {
            "loss": self.loss / self.count,
            "elbo": -(distortion + rate),
            "distortion": distortion,
            "rate": rate,
        }
        if self.sizes.discrete:
            means["bits_per_dim"] = (distortion + rate) / (prod(self.sizes.image_shape) * math.log(2))
        return means


class NLL(Metric):
    """nll = −log p(x) by importance sampling with exactly k draws, a mean over images in nats.

    `nll_k` is k, `nll_stderr` the standard error of the mean over images, `nll_ess` the mean effective
    sample size (Σw)² / Σw² of the draws, out of k.
    """

    full_state_update = False
    total: Tensor
    squares: Tensor
    ess: Tensor
    count: Tensor

    def __init__(self, sizes: Sizes, k: int, chunk: int = 100):
        super().__init__()
        self.k, self.chunk = check_int("metric.test.nll.k", k), check_int("metric.test.nll.chunk", chunk)
        for name in ("total", "squares", "ess", "count"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, batch: Evaluation) -> None:
        """Add one batch."""
        estimate = batch.model.log_marginal(batch.x, self.k, self.chunk)
        nll = -estimate.log_px.double()
        self.total += nll.sum()
        self.squares += nll.square().sum()
        self.ess += estimate.ess.double().sum()
        self.count += len(nll)

    def compute(self) -> dict[str, Tensor]:
        """The mean so far, and its uncertainty."""
        mean = self.total / self.count
        variance = (self.squares / self.count - mean.square()).clamp(min=0) * self.count / (self.count - 1)
        return {
            "nll": mean,
            "nll_stderr": (variance / self.count).sqrt(),
            "nll_ess": self.ess / self.count,
            "nll_k": torch.tensor(float(self.k)),
        }
