"""How the weights of a new model are drawn, by name."""

from torch import nn

from vae.checks import check_choice

INITS = ("torch", "glorot_uniform")
LINEAR = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def initialize(model: nn.Module, name: str) -> None:
    """Draw the weights of the linear and convolutional layers anew, in place.

    `torch`: left as torch draws them (He et al. 2015, with a gain of 1/√3). `glorot_uniform`: weights uniform in
    ±√(6 / (fan in + fan out)), biases 0 (Glorot & Bengio 2010, equation 16), as in Burda et al. 2016.

    Raises:
        ConfigError: there is none of that name.
    """
    if check_choice("init", name, INITS) == "torch":
        return
    for module in model.modules():
        if isinstance(module, LINEAR):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
