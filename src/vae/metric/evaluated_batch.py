"""What every metric is built from, and what it is given: one evaluated batch."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int64
from torch import Tensor
from torch.distributions import Distribution

from vae.bound.terms import Terms
from vae.data import ImageDataModule
from vae.model import LatentModel


@dataclass(frozen=True)
class Sizes:
    """What metrics must know beforehand.

    `discrete`: p(x|z) is a probability over the values x takes. `data_name`: what the images are.
    `has_density`: q(z|x) is no point, so that there is a bound. `codes`: K, of a model with codes, and 0 of
    others. `deterministic`: x has one code, so that all draws of z are one.
    """

    image_shape: tuple[int, int, int]
    latent_size: int
    discrete: bool
    data_name: str = "images"
    has_density: bool = True
    codes: int = 0
    deterministic: bool = False


@runtime_checkable
class NeedsData(Protocol):
    """A metric that must know more of the evaluated images than comes with the batches."""

    def take_data(self, data: ImageDataModule) -> None:
        """Called before the first batch, when the images have been read; `data.tested_split` is evaluated."""


@dataclass(frozen=True)
class EvaluatedBatch:
    """One batch.

    model: the model. x: the images. label: their classes. key: of the batch, from which its draws come.
    first: the position in the split of the first image; the others follow it.
    q: q(z|x) of each, for a denoising model of what its encoder sees of x. terms: the terms of the draws.
    loss: of the batch, a mean. posterior_mean: E_q[z|x]. reconstruction: from that mean; None where p(x|z) has no
    mean, as to draw it for every image would take too long.
    """

    model: LatentModel
    x: Float[Tensor, "B C H W"]
    label: Int64[Tensor, " B"]
    key: int
    first: int
    q: Distribution
    terms: Terms
    loss: Float[Tensor, ""]
    posterior_mean: Float[Tensor, "B D"]
    reconstruction: Float[Tensor, "B C H W"] | None
