"""What every encoder and every decoder is."""

from abc import ABC, abstractmethod

from jaxtyping import Float
from torch import Tensor, nn


class Encoder(nn.Module, ABC):
    """Image → features.

    One of your own takes (image_shape), sets `features` and gives `forward`.

    Attributes:
        features: F, how many it gives.
    """

    features: int

    @abstractmethod
    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        """The features of images."""


class Decoder(nn.Module, ABC):
    """z → the likelihood's parameters.

    One of your own takes (latent_size, param_shape) and gives both functions.
    """

    @abstractmethod
    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N P H W"]:
        """The parameters of p(x|z) for each z."""

    @abstractmethod
    def set_output_bias(self, params: Float[Tensor, "P H W"]) -> None:
        """Start the output at `params`, so that training need not first find the mean image."""
