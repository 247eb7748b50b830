"""The activations that a network's config may name."""

from torch import nn

from vae.checks import check_choice

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "identity": nn.Identity,
}


def activation_layer(name: str) -> nn.Module:
    """Return a new layer of the activation called `name`.

    Raises:
        ConfigError: there is no activation with this name.
    """
    return ACTIVATIONS[check_choice("network.activation", name, ACTIVATIONS)]()
