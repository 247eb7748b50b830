"""What every approximate posterior is."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution


class Posterior(nn.Module, ABC):
    """The encoder's features → q(z|x).

    One of your own takes (features, latent_size) and gives `forward`. A torch distribution of batch shape (B,) and
    event shape (D,), with `rsample`, `log_prob` and `mean`, is enough. If it also gives `noise` and `draw`, its
    draws are a function of noise that is drawn beforehand: then they are the same in chunks and in stacks.

    Args:
        latent_size: D.

    Attributes:
        has_density: whether q(z|x) has a density, so that there is a bound; False for a point.
    """

    has_density: bool = True

    def __init__(self, latent_size: int):
        super().__init__()
        self.latent_size = latent_size

    @abstractmethod
    def forward(self, features: Float[Tensor, "B F"]) -> Distribution:
        """q(z|x), of batch shape (B,) and event shape (D,)."""

    def noise(self, k: int, images: int) -> Float[Tensor, "K B E"]:
        """What is random in k draws for each image, from the default generator; nothing (E = 0) by default."""
        return next(self.parameters()).new_empty(k, images, 0)

    def draw(self, q: Distribution, noise: Float[Tensor, "K B E"]) -> Float[Tensor, "K B D"]:
        """z = g(ε, x), differentiable in the parameters of q (Kingma & Welling 2014, equation 4)."""
        return q.rsample(noise.shape[:1])
