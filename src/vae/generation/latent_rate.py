"""How much each latent says of images, for any posterior and prior."""

import torch
from jaxtyping import Float
from torch import Tensor

from vae.model import LatentModel


@torch.no_grad()
def approximate_rates(model: LatentModel, x: Float[Tensor, "B C H W"]) -> Float[Tensor, " D"]:
    """KL(q(z_d|x)‖N(0, 1)) of each latent as if it were Gaussian, a mean over x; for a point, its variance.

    Exact for a diagonal Gaussian posterior and a standard normal prior; for others it serves to sort the
    latents (the exact rate of each exists only where they are independent, see `vae.metric.rate_per_latent`).
    """
    q = model.encode(x)
    if not getattr(model.posterior, "has_density", True):
        return q.mean.var(0).cpu()
    try:
        variance = q.variance
    except NotImplementedError:
        variance = q.sample(torch.Size((100,))).var(0)
    return 0.5 * (q.mean.square() + variance - 1 - variance.log()).mean(0).cpu()
