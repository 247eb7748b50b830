"""What every metric is built from, and what it is given: one evaluated batch."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from vae.model import LatentModel
from vae.objective.terms import Terms


@dataclass(frozen=True)
class Sizes:
    """What metrics must know beforehand. `discrete`: p(x|z) is a probability over the values x takes."""

    image_shape: tuple[int, int, int]
    latent_size: int
    discrete: bool


@dataclass(frozen=True)
class Evaluation:
    """A batch x, its loss (a mean) and terms, the mean of its q(z|x), and the reconstruction from that mean."""

    model: LatentModel
    x: Float[Tensor, "B C H W"]
    loss: Float[Tensor, ""]
    terms: Terms
    posterior_mean: Float[Tensor, "B D"]
    reconstruction: Float[Tensor, "B C H W"]
