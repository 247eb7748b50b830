"""How much each latent says about the image."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence
from torchmetrics import Metric

from vae.metric.evaluated_batch import EvaluatedBatch, Sizes
from vae.model import LatentModel


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

    def update(self, batch: EvaluatedBatch) -> None:
        """Add one batch."""
        kl = exact_rates(batch.q, batch.model.p_z())
        if kl is not None:
            self.total += kl.sum(0, dtype=torch.float64)
            self.count += len(kl)

    def compute(self) -> dict[str, Tensor]:
        """Return the means so far, by latent."""
        return {"rate_per_latent": self.total / self.count} if self.count else {}


def exact_rates(q: Distribution, p: Distribution) -> Float[Tensor, "B D"] | None:
    """KL(q(z_d|x)‖p(z_d)) of each image and latent in closed form; None where there is none."""
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        return None
    try:
        return kl_divergence(q.base_dist, p.base_dist)
    except NotImplementedError:
        return None


@torch.no_grad()
def mean_rates(model: LatentModel, q: Distribution) -> Float[Tensor, " D"]:
    """Return the rate of each latent, a mean over images, for any posterior and prior.

    Exact where `exact_rates` is. Elsewhere KL(q(z_d|x)‖N(0, 1)) as if q were Gaussian, and for a point the
    or codes the variance of E[z_d|x] over the images, which serve to sort the latents.

    Args:
        model: the model.
        q: q(z|x) of the images.
    """
    if not model.posterior.has_density or model.posterior.codes is not None:
        return q.mean.var(0)
    exact = exact_rates(q, model.p_z())
    if exact is not None:
        return exact.mean(0)
    try:
        variance = q.variance
    except NotImplementedError:
        variance = q.sample(torch.Size((100,))).var(0)
    return 0.5 * (q.mean.square() + variance - 1 - variance.log()).mean(0)
