"""Where training starts: how weights are drawn, and what starts from the training images."""

import torch
from torch import nn

from vae.checks import check_choice
from vae.data import ImageDataModule
from vae.model import LatentModel

INITS = ("torch", "glorot_uniform", "glorot_weights")
LINEAR = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def initialize(model: LatentModel, name: str) -> None:
    """Draw the weights of the linear and convolutional layers anew, in place, and start the decoded spread.

    `torch`: left as torch draws them, weights and biases uniform in ±1/√(fan in). `glorot_uniform`: weights
    uniform in ±√(6 / (fan in + fan out)), biases 0 (Glorot & Bengio 2010, equation 16), as in Burda et al. 2016.
    `glorot_weights`: such weights, and the biases as torch draws them. Where all biases are 0, a decoder f of ReLU
    layers is positively homogeneous, f(αz) = αf(z) for α > 0: black at z = 0, where the prior is densest, and
    larger the farther out, which training undoes but slowly.

    Raises:
        ConfigError: there is none of that name.
    """
    if check_choice("init", name, INITS) != "torch":
        for module in model.modules():
            if isinstance(module, LINEAR):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None and name == "glorot_uniform":
                    nn.init.zeros_(module.bias)
    if model.likelihood.decodes_spread:
        start_at(model, torch.zeros(model.image_shape))  # for the spread's own start; the mean's may follow


def start_at(model: LatentModel, mean: torch.Tensor) -> None:
    """Start the decoder's output at the parameters of the mean image."""
    model.decoder.set_output_bias(model.likelihood.params_from_mean(mean))


def start_from_images(model: LatentModel, data: ImageDataModule, from_mean: bool) -> None:
    """Start the decoder at the mean training image, if asked for, and a prior that is made of images at some."""
    if from_mean:
        start_at(model, data.train_mean())
    if model.prior.images_needed:
        model.prior.start_from_images(data.images("train", model.prior.images_needed)[0])
