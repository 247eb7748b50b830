"""Where training starts: how weights are drawn, and what starts from the training images."""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import nn

from vae.checks import ConfigError, check_choice
from vae.data import ImageDataModule
from vae.model import LatentModel
from vae.network.pyramid import LastConvolution
from vae.objective.objective import Objective

INITS = ("torch", "glorot_uniform", "glorot_weights")
Start = bool | Literal["grey"]
LINEAR = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)


def initialize(model: LatentModel, name: str) -> None:
    """Draw the weights of the linear and convolutional layers anew, in place, and start the decoded spread.

    Those of a `LastConvolution` are then made smaller.

    `torch`: left as torch draws them, weights and biases uniform in ±1/√(fan in). `glorot_uniform`: weights
    uniform in ±√(6 / (fan in + fan out)), biases 0 (Glorot & Bengio 2010, equation 16), as in Burda et al. 2016.
    `glorot_weights`: such weights, and the biases as torch draws them. Where all biases are 0, a decoder f of ReLU
    layers is positively homogeneous, f(αz) = αf(z) for α > 0: black at z = 0, where the prior is densest, and
    larger the farther out, which training undoes but slowly.

    Parts that are `own_init` are left alone, and so are layers of others whose weights are all 0: somebody meant
    that, as torch draws none.

    Raises:
        ConfigError: there is none of that name.
    """
    if check_choice("init", name, INITS) != "torch":
        for layer in _drawn_by_torch(model):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None and name == "glorot_uniform":
                nn.init.zeros_(layer.bias)
    for module in model.modules():
        if isinstance(module, LastConvolution):
            module.start_small()
    if model.likelihood.decodes_spread:
        start_at(model, torch.zeros(model.image_shape))  # for the spread's own start; the mean's may follow


def _drawn_by_torch(model: LatentModel) -> Iterator[nn.Linear | nn.Conv2d | nn.ConvTranspose2d]:
    """Yield the linear and convolutional layers whose weights nobody has started otherwise."""
    parts = (model.encoder, model.decoder, model.posterior, model.prior, model.likelihood)
    own = {module for part in parts if part.own_init for module in part.modules()}
    for module in model.modules():
        if isinstance(module, LINEAR) and module not in own and module.weight.any():
            yield module


def start_at(model: LatentModel, mean: torch.Tensor) -> None:
    """Start the decoder's output at the parameters of the mean image."""
    model.decoder.set_output_bias(model.likelihood.params_from_mean(mean))


def where_to_start(value: object, model: LatentModel) -> Start:
    """`start_from_mean` of this model: true, false or `grey`, of which `auto` chooses one by the likelihood.

    With (continuous) Bernoulli pixels the start is the mean training image: a pixel that is nearly always 0 needs
    a logit far below 0, which Adam would take thousands of steps to reach. From there a Gaussian decoder may never
    use its latents: nothing is left to teach its hidden layers that images are not black. From the mean grey
    it does. docs/starts.md has the measurements.

    Raises:
        ConfigError: it is something else.
    """
    if value == "auto":
        if not model.likelihood.has_mean:
            return False
        return True if model.likelihood.support in ("binary", "unit") else "grey"
    if value is True or value is False or value == "grey":
        return value
    raise ConfigError(f"start_from_mean={value}: must be auto, true, grey or false")


@torch.no_grad()
def start_from_images(model: LatentModel, data: ImageDataModule, start: Start) -> None:
    """Start the decoder where it is to, and what is made of training images at some."""
    if start:
        mean = data.train_mean()
        start_at(model, mean.mean((1, 2), keepdim=True).expand_as(mean) if start == "grey" else mean)
    if model.posterior.images_needed and model.posterior.training:
        images, labels = data.images("train", model.posterior.images_needed)
        model.posterior.start_from_features(model.features(images.to(model.device), labels.to(model.device)))
    if model.prior.images_needed:
        model.prior.start_from_images(data.images("train", model.prior.images_needed)[0])


def check_labels(data: ImageDataModule, model: LatentModel, objective: Objective) -> None:
    """Refuse images without labels, or with more of them than there are classes, for what uses labels.

    Raises:
        ConfigError: see above.
    """
    prior, network = model.prior.classes, model.encoder if model.encoder.classes else model.decoder
    if prior:
        asks = "prior.condition=label"
    else:
        asks = f"network={type(network).__name__}" if network.classes else f"objective={type(objective).__name__}"
    source, members = data.subsets["train"].source, data.subsets["train"].members
    labels = source.labels[members.to(source.labels.device)]
    if labels.min() == labels.max():
        raise ConfigError(f"{asks}: uses the labels of images, and {type(data).__name__} has none")
    if 0 < (classes := prior or model.classes) <= labels.max():
        raise ConfigError(
            f"{'prior' if prior else 'network'}.classes={classes}: must be at least {int(labels.max()) + 1}, as"
            " the labels of these images are"
        )
