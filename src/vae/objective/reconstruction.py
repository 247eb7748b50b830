"""`objective=reconstruction`: the distortion alone, for the plain autoencoder."""

from jaxtyping import Float
from torch import Tensor

from vae.bound.terms import Terms
from vae.checks import check_int
from vae.objective.objective import Objective


class Reconstruction(Objective):
    """The loss −(1/k) Σ_k log p(x|z_k), as a mean over images. Nothing pulls q(z|x) towards the prior.

    With `posterior=delta` this is the plain autoencoder.

    Args:
        k: the number of draws of z for each image; more than one is allowed only if the posterior is not a point.
        chunk: the number of draws decoded at a time; None for all at once.
    """

    needs_density = False
    trains_prior = False

    def __init__(self, k: int = 1, chunk: int | None = None):
        super().__init__(check_int("objective.k", k), chunk)

    def forward(self, terms: Terms, step: int | Tensor) -> Float[Tensor, ""]:
        """Return the loss in nats per image at optimiser step `step`."""
        return terms.distortion.mean()
