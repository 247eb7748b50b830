"""What every approximate posterior is."""

from abc import ABC, abstractmethod

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributions import Distribution

from vae.bound.codes import Codes
from vae.bound.maps import Grid


class Posterior(nn.Module, ABC):
    """The encoder's features → q(z|x).

    One of your own takes (features, latent_size) and gives `forward`. A torch distribution of batch shape (B,) and
    event shape (D,), with `rsample`, `log_prob` and `mean`, is enough. If it also gives `noise` and `draw`, its
    draws are a function of noise that is drawn beforehand: then they are the same in chunks and in stacks.

    Args:
        latent_size: D, how many numbers z has.

    Attributes:
        has_density: whether q(z|x) has a density, so that there is a bound; False for a point.
        codes: what z is made of where it is discrete (`vae.bound.codes`); None where it is not. Then there are
            also `vectors` and `codes_of`.
        deterministic: whether x has one code, which every draw is.
        enumerated: whether `noise` gives every z that there is, each once, whatever k.
        relaxes: whether draws are no codes while it trains, but somewhere between.
        images_needed: training images whose features `start_from_features` must be given before training; 0 for
        none. has_penalty: whether the loss has a term of its own, `penalty`.
        adapts: whether `after_step` does something.
        uses_features: whether q(z|x) depends on the encoder's features.
        by_bayes: whether `forward` takes, in place of features, log p(x, z) of every z that there is.
        grid: (h, w), where z has a vector for each place of it (`vae.bound.maps`); None where z is a plain vector.
        own_init: whether its weights are started by itself, so that `init` leaves them alone.
    """

    has_density: bool = True
    codes: Codes | None = None
    deterministic: bool = False
    enumerated: bool = False
    relaxes: bool = False
    uses_features: bool = True
    by_bayes: bool = False
    images_needed: int = 0
    has_penalty: bool = False
    adapts: bool = False
    grid: Grid | None = None
    own_init: bool = False

    def __init__(self, latent_size: int):
        super().__init__()
        self.latent_size = latent_size

    @abstractmethod
    def forward(self, features: Float[Tensor, "B F"]) -> Distribution:
        """q(z|x), of batch shape (B,) and event shape (D,)."""

    def noise(self, k: int, images: int) -> Float[Tensor, "K B E"]:
        """Return what is random in k draws for each image, from the default generator; nothing (E = 0) by
        default.
        """
        return next(self.parameters()).new_empty(k, images, 0)

    def draw(self, q: Distribution, noise: Float[Tensor, "K B E"]) -> Float[Tensor, "K B D"]:
        """z = g(ε, x), differentiable in the parameters of q (Kingma & Welling 2014, equation 4)."""
        return q.rsample(noise.shape[:1])

    def vectors(self, codes: Int64[Tensor, "*N n"]) -> Float[Tensor, "*N D"]:
        """z of codes."""
        raise NotImplementedError

    def codes_of(self, z: Float[Tensor, "*N D"]) -> Int64[Tensor, "*N n"]:
        """Return the codes of z, or where there is none for z, those of what is nearest."""
        raise NotImplementedError

    def start_from_features(self, features: Float[Tensor, "N F"]) -> None:
        """Start at features of `images_needed` training images, or of all; called once, before training."""

    def penalty(self, q: Distribution) -> Float[Tensor, " B"]:
        """Return what the loss of each image has beside the objective's, in nats, and no bound knows."""
        raise NotImplementedError

    def after_step(self) -> None:
        """Adapt to the images that `forward` was given last while training. Called in each step if it `adapts`."""
