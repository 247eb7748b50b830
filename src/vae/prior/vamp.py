"""`prior=vamp`: the mixture of the posteriors of pseudo-inputs."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, MixtureSameFamily

from vae.checks import ConfigError, check_int
from vae.prior.prior import Prior


class Vamp(Prior):
    """p(z) = (1/M) Σ_m q(z|u_m), with M images u_m that are learned (Tomczak & Welling 2018, equation 9).

    The pseudo-inputs start as training images and are kept in [0, 1]. The encoder is not part of this module. It
    is passed to `forward`, so that its weights are registered once.

    Args:
        latent_size: D.
        image_shape: (C, H, W).
        components: M.
    """

    logits: Tensor

    def __init__(self, latent_size: int, image_shape: tuple[int, int, int], components: int = 100):
        super().__init__()
        self.pseudo_inputs = nn.Parameter(torch.rand(check_int("prior.components", components), *image_shape))
        self.register_buffer("logits", torch.zeros(components), persistent=False)

    @property
    def images_needed(self) -> int:  # type: ignore[override]
        """The number of training images that `start_from_images` needs."""
        return len(self.pseudo_inputs)

    @torch.no_grad()
    def start_from_images(self, images: Float[Tensor, "N C H W"]) -> None:
        """Start the pseudo-inputs at these images.

        Raises:
            ConfigError: there are fewer images than pseudo-inputs.
        """
        if len(images) < self.images_needed:
            raise ConfigError(
                f"prior.components={self.images_needed}: must be at most the {len(images)} training images,"
                " from which they start"
            )
        self.pseudo_inputs.copy_(images[: self.images_needed])

    def forward(self, encode: Callable[[Tensor], Distribution]) -> MixtureSameFamily:
        """Return p(z), of event shape (D,)."""
        weights = Categorical(logits=self.logits, validate_args=False)
        return MixtureSameFamily(weights, encode(self.pseudo_inputs.clamp(0, 1)), validate_args=False)
