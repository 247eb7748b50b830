"""`posterior=categorical`: D latents of K classes each."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributions import Distribution

from vae.bound.codes import Codes, OneHot, gumbel_noise
from vae.checks import check_choice, check_int, check_number
from vae.posterior.posterior import Posterior


class Categorical(Posterior):
    """q(z|x) = Π_i Cat(z_i; softmax(l_i(x))), with l linear in the features and z_i one-hot.

    Draws are made of Gumbel noise, and their gradients those of relaxed draws: see `OneHot`. A relaxed draw is no
    code, and its bound none of the model with codes; evaluation therefore always draws codes. Of a single latent
    nothing is drawn: expectations over q are exact sums over the K classes.

    Args:
        features: F, the width of the encoder's output.
        latent_size: n, the number of latents.
        classes: K.
        gradient: `straight_through`, or `gumbel` for relaxed draws while training.
        temperature: τ of the relaxed draws.
    """

    codes: Codes

    def __init__(
        self,
        features: int,
        latent_size: int,
        classes: int = 10,
        gradient: str = "straight_through",
        temperature: float = 1.0,
    ):
        classes = check_int("posterior.classes", classes, minimum=2)
        super().__init__(latent_size * classes)
        self.codes = Codes(1, latent_size, classes, one_hot=True)
        self.enumerated = latent_size == 1
        self.relaxes = check_choice("posterior.gradient", gradient, ("straight_through", "gumbel")) == "gumbel"
        self.temperature = check_number("posterior.temperature", temperature, above=0)
        self.logits = nn.Linear(features, latent_size * classes)

    def forward(self, features: Float[Tensor, "B F"]) -> OneHot:
        """q(z|x), of batch shape (B,) and event shape (n·K,)."""
        logits = self.logits(features).unflatten(-1, (-1, self.codes.classes))
        return OneHot(logits, self.temperature, self.relaxes and self.training, self.enumerated)

    def noise(self, k: int, images: int) -> Float[Tensor, "K B E"]:
        """Gumbel noise; of a single latent its classes, each once."""
        weight = self.logits.weight
        if self.enumerated:
            return every_class(self.codes.classes, images, weight)
        return gumbel_noise((k, images, self.latent_size), weight)

    def draw(self, q: Distribution, noise: Float[Tensor, "K B E"]) -> Float[Tensor, "K B D"]:
        """Return the choices, or of a single latent the classes, as one-hot vectors."""
        assert isinstance(q, OneHot)
        return self.vectors(noise.long()) if self.enumerated else q.at(noise)

    def vectors(self, codes: Int64[Tensor, "*N n"]) -> Float[Tensor, "*N D"]:
        """Return the one-hot vectors of the choices."""
        return one_hot(codes, self.codes)

    def codes_of(self, z: Float[Tensor, "*N D"]) -> Int64[Tensor, "*N n"]:
        """Return where z is largest."""
        return z.unflatten(-1, (-1, self.codes.classes)).argmax(-1)


def every_class(classes: int, images: int, like: Tensor) -> Float[Tensor, "K B 1"]:
    """0, …, K − 1 for each image."""
    return torch.arange(classes, dtype=like.dtype, device=like.device)[:, None, None].expand(-1, images, 1)


def one_hot(codes: Int64[Tensor, "*N n"], of: Codes) -> Float[Tensor, "*N D"]:
    """One-hot vectors in the default type, one after the other."""
    return F.one_hot(codes, of.classes).to(torch.get_default_dtype()).flatten(-2)
