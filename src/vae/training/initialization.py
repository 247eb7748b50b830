"""How the weights of a new model are drawn, by name."""

from torch import nn

from vae.checks import check_choice

INITS = ("torch", "glorot_uniform", "glorot_weights")
LINEAR = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def initialize(model: nn.Module, name: str) -> None:
    """Draw the weights of the linear and convolutional layers anew, in place.

    `torch`: left as torch draws them, weights and biases uniform in ±1/√(fan in). `glorot_uniform`: weights
    uniform in ±√(6 / (fan in + fan out)), biases 0 (Glorot & Bengio 2010, equation 16), as in Burda et al. 2016.
    `glorot_weights`: such weights, and the biases as torch draws them. Where all biases are 0, a decoder f of ReLU
    layers is positively homogeneous, f(αz) = αf(z) for α > 0: black at z = 0, where the prior is densest, and
    larger the farther out, which training undoes but slowly.

    Raises:
        ConfigError: there is none of that name.
    """
    if check_choice("init", name, INITS) == "torch":
        return
    for module in model.modules():
        if isinstance(module, LINEAR):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None and name == "glorot_uniform":
                nn.init.zeros_(module.bias)
