"""How many latents the posterior uses."""

import math

import torch
from torch import Tensor
from torchmetrics import Metric

from vae.checks import check_number
from vae.metric.evaluated_batch import EvaluatedBatch, Sizes

COLLAPSED_RATE = 0.1
"""A rate, in nats per image, below which the latents say nothing of the images."""


class ActiveUnits(Metric):
    """active_units = #{d : Var_x(E_q[z_d|x]) > threshold} (Burda et al. 2016, section 5.1)."""

    full_state_update = False
    total: Tensor
    squares: Tensor
    count: Tensor

    def __init__(self, sizes: Sizes, threshold: float = 0.01):
        super().__init__()
        self.has_codes = sizes.codes > 0
        self.threshold = check_number("metric.active_units.threshold", threshold, minimum=0)
        for name in ("total", "squares"):
            self.add_state(name, torch.zeros(sizes.latent_size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, batch: EvaluatedBatch) -> None:
        """Add one batch."""
        mean = batch.posterior_mean.double()
        self.total += mean.sum(0)
        self.squares += mean.square().sum(0)
        self.count += len(mean)

    def variances(self) -> Tensor:
        """Var_x(E_q[z_d|x]) of each latent, shape (D,)."""
        return self.squares / self.count - (self.total / self.count).square()

    def compute(self) -> dict[str, Tensor]:
        """Return the number of active latents so far, and the variance of each latent's posterior mean.

        Nothing of a single image, which has no variance, and nothing of codes, of which `CodeUsage` tells.
        """
        if self.count < 2 or self.has_codes:
            return {}
        variances = self.variances()
        return {
            "active_units": (variances > self.threshold).sum().double(),
            "posterior_mean_variance": variances,
        }


def collapse_warning(active_units: float | None, rate: float | None) -> str | None:
    """Return a line that says that the posterior has collapsed, and what helps; None where it has not, or is a
    point.

    Args:
        active_units: how many latents are active; None where that is unknown.
        rate: in nats per image; None where there is none.
    """
    if rate == 0:  # exactly only where q(z|x) is the prior by construction (posterior=independent)
        return None
    if rate is None or not math.isfinite(rate) or (active_units != 0 and rate >= COLLAPSED_RATE):
        return None
    active = "" if active_units is None else f"{active_units:g} active units and "
    return (
        f"posterior collapse: {active}a rate of {rate:.3g} nats, so that the latents say (almost) nothing of the"
        " images; the cure is a σ that fits, near the root mean squared error of good reconstructions: a smaller"
        " likelihood.sigma, or likelihood=gaussian_learned (docs/theory.md, Choosing σ)"
    )
