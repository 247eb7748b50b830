"""How much each latent says about the image."""

import torch
from torch import Tensor
from torch.distributions import Independent, kl_divergence
from torchmetrics import Metric

from vae.metric.evaluated_batch import Evaluation, Sizes


class RatePerLatent(Metric):
    """rate_per_latent: KL(q(z_d|x)‖p(z_d)) of each latent, a mean over images in nats; they add up to the rate.

    There is one only where the latents are independent in the posterior and in the prior and the KL has a
    closed form; for other models nothing is reported.
    """

    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.add_state("total", torch.zeros(sizes.latent_size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, batch: Evaluation) -> None:
        """Add one batch."""
        p = batch.model.p_z()
        if not (isinstance(batch.q, Independent) and isinstance(p, Independent)):
            return
        try:
            kl = kl_divergence(batch.q.base_dist, p.base_dist)  # (B, D)
        except NotImplementedError:
            return
        self.total += kl.sum(0, dtype=torch.float64)
        self.count += len(kl)

    def compute(self) -> dict[str, Tensor]:
        """The means so far, by latent."""
        return {"rate_per_latent": self.total / self.count} if self.count else {}
