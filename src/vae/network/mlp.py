"""`network=mlp`: fully connected layers in the encoder and the decoder."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae.checks import ConfigError, check_int
from vae.network.activation import activation_layer
from vae.network.network import Decoder, Encoder


def _check_sizes(hidden_sizes: Sequence[int]) -> None:
    if isinstance(hidden_sizes, str) or not isinstance(hidden_sizes, Sequence):
        raise ConfigError(f"network.hidden_sizes={hidden_sizes}: must be a list of whole numbers, as in [200,200]")
    for size in hidden_sizes:
        check_int("network.hidden_sizes", size)


class GatedLinear(nn.Module):
    """A linear layer with a gate for each hidden unit: f(Ax + b) ⊙ σ(Cx + d).

    Source: Dauphin et al. 2017, equation 1.
    """

    def __init__(self, size_in: int, size_out: int, activation: str):
        super().__init__()
        self.linear, self.gate = nn.Linear(size_in, size_out), nn.Linear(size_in, size_out)
        self.activation = activation_layer(activation)

    def forward(self, x: Float[Tensor, "N I"]) -> Float[Tensor, "N O"]:
        return self.activation(self.linear(x)) * self.gate(x).sigmoid()


def _hidden_layers(sizes: Sequence[int], activation: str, gated: bool) -> list[nn.Module]:
    if gated:
        return [GatedLinear(size_in, size_out, activation) for size_in, size_out in pairwise(sizes)]
    return [
        layer
        for size_in, size_out in pairwise(sizes)
        for layer in (nn.Linear(size_in, size_out), activation_layer(activation))
    ]


class MLPEncoder(Encoder):
    """An encoder, image → features, with one hidden layer for each of `hidden_sizes`.

    The activation follows each hidden layer. If there are no hidden sizes, the features are the pixels, and the
    encoder is linear in x.

    Args:
        image_shape: (C, H, W).
        hidden_sizes: widths, from the image inwards.
        activation: a name in `vae.network.activation`.
        gated: whether hidden layers are `GatedLinear`.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        hidden_sizes: Sequence[int],
        activation: str,
        gated: bool = False,
    ):
        super().__init__()
        _check_sizes(hidden_sizes)
        sizes = [prod(image_shape), *hidden_sizes]
        self.features = sizes[-1]
        self.layers = nn.Sequential(nn.Flatten(), *_hidden_layers(sizes, activation, gated))

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        return self.layers(x)


class MLPDecoder(Decoder):
    """A decoder, z → likelihood parameters, with the encoder's hidden sizes in reverse order.

    A linear output layer follows the hidden layers.

    Args:
        latent_size: D.
        param_shape: (P, H, W), the shape that the likelihood needs.
        hidden_sizes: the encoder's widths, from the image inwards.
        activation: a name in `vae.network.activation`.
        gated: whether hidden layers are `GatedLinear`.
    """

    def __init__(
        self,
        latent_size: int,
        param_shape: tuple[int, int, int],
        hidden_sizes: Sequence[int],
        activation: str,
        gated: bool = False,
    ):
        super().__init__()
        _check_sizes(hidden_sizes)
        sizes = [latent_size, *reversed(hidden_sizes)]
        self.output = nn.Linear(sizes[-1], prod(param_shape))
        self.layers = nn.Sequential(
            *_hidden_layers(sizes, activation, gated), self.output, nn.Unflatten(1, param_shape)
        )

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N P H W"]:
        return self.layers(z)

    @torch.no_grad()
    def set_output_bias(self, params: Float[Tensor, "P H W"]) -> None:
        """Set the bias so that the output starts at `params`, and training need not first find the mean image."""
        self.output.bias.copy_(params.flatten())
