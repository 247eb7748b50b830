"""`prior=flow`: p(z) by a normalising flow."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal
from zuko.distributions import NormalizingFlow
from zuko.flows import MAF

from vae.checks import check_choice, check_int
from vae.prior.prior import Prior


class FlowPrior(Prior):
    """log p(z) = log N(f(z); 0, I) + ln |det ∂f/∂z| with f a chain of affine autoregressive or coupling layers.

    The density takes one pass, which is what training needs. A draw takes D passes for each layer if
    `autoregressive` and 2 if `coupling` (Chen et al. 2017, Variational lossy autoencoder, section 3.2;
    Papamakarios et al. 2017, Masked autoregressive flow).

    Args:
        latent_size: D.
        image_shape: (C, H, W); used only by priors that are built from images.
        kind: `autoregressive` or `coupling`.
        transforms: the number of layers of f; each layer reverses the order of the latents.
        hidden_sizes: widths of the network in each layer.
    """

    zero: Tensor
    one: Tensor

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, int, int],
        kind: str = "autoregressive",
        transforms: int = 3,
        hidden_sizes: Sequence[int] = (64, 64),
    ):
        super().__init__()
        check_choice("prior.kind", kind, ("autoregressive", "coupling"))
        self.transform = MAF(
            features=latent_size,
            transforms=check_int("prior.transforms", transforms, maximum=1000),
            hidden_features=[check_int("prior.hidden_sizes", size) for size in hidden_sizes],
            passes=2 if kind == "coupling" else None,
        ).transform
        self.register_buffer("zero", torch.zeros(latent_size), persistent=False)
        self.register_buffer("one", torch.ones(latent_size), persistent=False)

    def forward(self, encode: Callable[[Tensor], Distribution]) -> NormalizingFlow:
        """Return p(z), of event shape (D,). `encode` is not used by this prior."""
        base = Independent(Normal(self.zero, self.one, validate_args=False), 1, validate_args=False)
        return NormalizingFlow(self.transform(), base)
