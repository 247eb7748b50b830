"""`posterior=exact`: q(z|x) = p(z|x) by Bayes' rule, for one latent of K classes."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.distributions import Distribution

from vae.bound.codes import Codes, OneHot
from vae.checks import ConfigError, check_int
from vae.posterior.categorical import every_class, one_hot
from vae.posterior.posterior import Posterior


class Exact(Posterior):
    """q(z = k|x) = p(x|k) p(k) / Σ_j p(x|j) p(j): the responsibilities of a mixture of K components.

    With it the ELBO is log p(x) itself. The responsibilities are kept constant in the gradient, which loses
    nothing, as no change of q makes the ELBO larger: a step of gradient descent climbs what EM climbs (Neal &
    Hinton 1998, A view of the EM algorithm that justifies incremental, sparse, and other variants). The encoder
    is not used: `network.hidden_sizes=[]` has none, and a table of K images for a decoder.

    Args:
        features: F, the width of the encoder's output.
        latent_size: the number of latents, 1.
        classes: K.

    Raises:
        ConfigError: there are several latents, whose codes would be too many to be enumerated.
    """

    codes: Codes
    enumerated = True
    by_bayes = True
    uses_features = False

    def __init__(self, features: int, latent_size: int, classes: int = 10):
        classes = check_int("posterior.classes", classes, minimum=2)
        if latent_size != 1:
            raise ConfigError(
                f"latent_size={latent_size}: must be 1 with posterior=exact, which sums over all its codes"
            )
        super().__init__(classes)
        self.codes = Codes(1, 1, classes, one_hot=True)
        self.register_buffer("zero", torch.zeros(()), persistent=False)

    zero: Tensor

    def forward(self, features: Float[Tensor, "B K"]) -> OneHot:
        """p(z|x), of batch shape (B,) and event shape (K,), given log p(x, z) of every z."""
        return OneHot(features.unsqueeze(-2), enumerated=True)

    def noise(self, k: int, images: int) -> Float[Tensor, "K B 1"]:
        """Return the classes, each once."""
        return every_class(self.codes.classes, images, self.zero)

    def draw(self, q: Distribution, noise: Float[Tensor, "K B 1"]) -> Float[Tensor, "K B D"]:
        """Return the classes as one-hot vectors."""
        return self.vectors(noise.long())

    def vectors(self, codes: Int64[Tensor, "*N n"]) -> Float[Tensor, "*N D"]:
        """Return the one-hot vector of the class."""
        return one_hot(codes, self.codes)

    def codes_of(self, z: Float[Tensor, "*N D"]) -> Int64[Tensor, "*N n"]:
        """Return where z is largest."""
        return z.argmax(-1, keepdim=True)
