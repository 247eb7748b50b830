"""What every prior is."""

from abc import ABC, abstractmethod
from collections.abc import Callable

from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributions import Distribution

from vae.bound.codes import Codes


class Prior(nn.Module, ABC):
    """p(z).

    One of your own takes (latent_size, image_shape) and gives `forward`.

    Attributes:
        images_needed: training images that `start_from_images` must be given before training; 0 for none.
        has_table: whether it is over codes whose choices are independent, so that log p(c) is linear in one-hot z.
        classes: how many classes of images p(z) is a mixture over, learned from their labels; 0 if it knows none.
        over_codes: whether it is over codes, of which `take_codes` tells it, and not over vectors.
        own_init: whether its weights are started by itself, so that `init` leaves them alone.
    """

    images_needed: int = 0
    over_codes: bool = False
    has_table: bool = False
    classes: int = 0
    own_init: bool = False

    def take_codes(self, codes: Codes) -> None:
        """Be a prior over these codes; called once, right after it is made, of those that are `over_codes`."""
        raise NotImplementedError

    @abstractmethod
    def forward(self, encode: Callable[[Tensor], Distribution]) -> Distribution:
        """p(z), of event shape (D,); over codes, p(c) of event shape (n,).

        Args:
            encode: x → q(z|x), for priors that are made of posteriors.
        """

    def of_labels(self, labels: Int64[Tensor, " B"]) -> Distribution:
        """p(z, y) at labels y, of batch shape (B,), whose draws are of p(z|y); for those that have `classes`."""
        raise NotImplementedError

    def start_from_images(self, images: Float[Tensor, "N C H W"]) -> None:
        """Start at training images, `images_needed` of them or more; called once, before training."""
