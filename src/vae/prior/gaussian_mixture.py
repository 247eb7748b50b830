"""`prior=gaussian_mixture`: p(z) = Σ_i π_i N(m_i, diag s_i²), learned with the model."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, MixtureSameFamily, Normal

from vae.checks import check_int
from vae.prior.prior import Prior


class GaussianMixture(Prior):
    """p(z) = Σ_i π_i N(z; m_i, diag s_i²) with π, m and s learned (Dilokthanakul et al. 2016, without y).

    The means start as draws from N(0, I), the scales at 1 and the weights equal.

    Args:
        latent_size: D.
        image_shape: (C, H, W); used only by priors that are built from images.
        components: the number of Gaussians in the mixture.
    """

    def __init__(self, latent_size: int, image_shape: tuple[int, int, int], components: int = 10):
        super().__init__()
        check_int("prior.components", components)
        self.mean = nn.Parameter(torch.randn(components, latent_size))
        self.log_scale = nn.Parameter(torch.zeros(components, latent_size))
        self.logits = nn.Parameter(torch.zeros(components))

    def forward(self, encode: Callable[[Tensor], Distribution]) -> MixtureSameFamily:
        """Return p(z), of event shape (D,). `encode` is not used by this prior."""
        weights = Categorical(logits=self.logits, validate_args=False)
        normals = Independent(Normal(self.mean, self.log_scale.exp(), validate_args=False), 1, validate_args=False)
        return MixtureSameFamily(weights, normals, validate_args=False)
