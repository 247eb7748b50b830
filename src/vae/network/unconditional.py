"""`network=unconditional`: nothing of x is encoded, and nothing of z decoded."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae.network.network import Decoder, Encoder


class UnconditionalEncoder(Encoder):
    """x → a feature that is 1, with nothing to learn.

    Args:
        image_shape: (C, H, W).
    """

    features = 1

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__()

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B 1"]:
        return torch.ones_like(x[:, 0, 0, :1])


class UnconditionalDecoder(Decoder):
    """The same parameters for every z, so that p(x|z) = p(x) and log p(x) is exact.

    Args:
        latent_size: D.
        param_shape: (P, H, W), what the likelihood asks for.
    """

    def __init__(self, latent_size: int, param_shape: tuple[int, int, int]):
        super().__init__()
        self.output = nn.Parameter(0.1 * torch.randn(param_shape))

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N P H W"]:
        return self.output.repeat(len(z), 1, 1, 1)

    @torch.no_grad()
    def set_output_bias(self, params: Float[Tensor, "P H W"]) -> None:
        """Start the output at `params`."""
        self.output.copy_(params)
