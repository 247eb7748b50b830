"""The base classes of all encoders and decoders."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """An encoder, image → features.

    To write your own, take (image_shape), set `features` and define `forward`. One that has `classes` is called
    with the label of each image, too: `forward(x, label)`.

    Attributes:
        features: F, the number of features.
        classes: how many classes there are of images whose labels it is told, for q(z|x, y); 0 for not told.
        own_init: whether its weights are started by itself, so that `init` leaves them alone.
    """

    features: int
    classes: int = 0
    own_init: bool = False

    @abstractmethod
    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """Return the features of images."""


class Decoder(nn.Module, ABC):
    """A decoder, z → the likelihood's parameters.

    To write your own, take (latent_size, param_shape) and define both functions. One that has `classes` is called
    with the label of each z, too: `forward(z, label)`.

    Attributes:
        classes: how many classes there are of images whose labels it is told, for p(x|z, y); 0 for not told.
        own_init: whether its weights are started by itself, so that `init` leaves them alone.
    """

    classes: int = 0
    own_init: bool = False

    @abstractmethod
    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N P H W"]:
        """Return the parameters of p(x|z) for each z."""

    @abstractmethod
    def set_output_bias(self, params: Float[Tensor, "P H W"]) -> None:
        """Set the bias so that the output starts at `params`, and training need not first find the mean image."""
