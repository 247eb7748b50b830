"""`posterior=independent`: the posterior that is the prior."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vae.posterior.posterior import Posterior


class IndependentOfImage(Posterior):
    """q(z|x) = N(0, I), whatever x is: with `prior=standard_normal` the rate is 0.

    Where p(x|z) does not depend on z either (`network=unconditional`), the ELBO is log p(x) itself.

    Args:
        features: F, the width of the encoder's output.
        latent_size: D.
    """

    uses_features = False

    def __init__(self, features: int, latent_size: int):
        super().__init__(latent_size)
        self.register_buffer("zero", torch.zeros(latent_size), persistent=False)

    zero: Tensor

    def forward(self, features: Float[Tensor, "B F"]) -> Independent:
        """q(z|x), of batch shape (B,) and event shape (D,)."""
        zero = self.zero.expand(len(features), -1)
        return Independent(Normal(zero, torch.ones_like(zero), validate_args=False), 1, validate_args=False)

    def noise(self, k: int, images: int) -> Float[Tensor, "K B D"]:
        """z itself."""
        return torch.randn(k, images, self.latent_size, dtype=self.zero.dtype, device=self.zero.device)

    def draw(self, q: Distribution, noise: Float[Tensor, "K B D"]) -> Float[Tensor, "K B D"]:
        """Return the noise."""
        return noise
