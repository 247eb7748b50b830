"""The ELBO and its two parts, as means over images."""

import math
from math import prod

import torch
from torch import Tensor
from torchmetrics import Metric

from vae.metric.evaluated_batch import EvaluatedBatch, Sizes


class Bound(Metric):
    """The metric elbo = −(distortion + rate) at β = 1, with both parts as means over images in nats.

    bits_per_dim = −elbo / (C·H·W·ln 2). `loss` is the mean of what the objective minimises (with its β, free bits
    and so on). Bits per dimension are reported only if the likelihood is a probability over the values that x
    takes.
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

    def update(self, batch: EvaluatedBatch) -> None:
        """Add one batch."""
        self.loss += batch.loss.double() * len(batch.x)
        self.distortion += batch.terms.distortion.sum(dtype=torch.float64)
        self.rate += batch.terms.rate.sum(dtype=torch.float64)
        self.count += len(batch.x)

    def compute(self) -> dict[str, Tensor]:
        """Return the means over all images so far.

        If q(z|x) is a point, there is no bound: only the loss and the distortion are returned.
        """
        if not self.sizes.has_density:
            return {"loss": self.loss / self.count, "distortion": self.distortion / self.count}
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
