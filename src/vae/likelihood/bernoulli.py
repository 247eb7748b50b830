"""Bernoulli p(x|z) for pixels that are 0 or 1."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Independent

from vae.precision import full_precision


class Bernoulli(nn.Module):
    """`likelihood=bernoulli`: log p(x|z) = Σ_pixels [x ln p + (1 − x) ln(1 − p)], p = sigmoid(decoder).

    A probability for binarised images (`data.binarize=dynamic|threshold`). On grey values it is the
    cross-entropy that many introductions use, which is no density over [0, 1]: nothing in bits is
    reported for it then (for grey values there is the continuous Bernoulli).

    Args:
        image_shape: (C, H, W).
    """

    support = "binary"

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()
        self.param_shape = image_shape

    def forward(self, params: Float[Tensor, "*N C H W"]) -> Independent:
        """The distribution over x, of event shape (C, H, W)."""
        return Independent(
            TorchBernoulli(logits=full_precision(params), validate_args=False), 3, validate_args=False
        )

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """The decoder output at which the likelihood's mean is `mean`, kept within 0.001 of 0 and 1."""
        return torch.logit(mean, eps=1e-3)
