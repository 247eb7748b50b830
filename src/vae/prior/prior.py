"""What every prior is."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution


class Prior(nn.Module, ABC):
    """p(z).

    One of your own takes (latent_size, image_shape) and gives `forward`.

    Attributes:
        images_needed: training images that `start_from_images` must be given before training; 0 for none.
    """

    images_needed: int = 0

    @abstractmethod
    def forward(self, encode: Callable[[Tensor], Distribution]) -> Distribution:
        """p(z), of event shape (D,).

        Args:
            encode: x → q(z|x), for priors that are made of posteriors.
        """

    def start_from_images(self, images: Float[Tensor, "N C H W"]) -> None:
        """Start at training images, `images_needed` of them or more; called once, before training."""
