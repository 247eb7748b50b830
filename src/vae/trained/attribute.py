"""Latent arithmetic: moving images along the difference between those with an attribute and those without."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from vae.checks import ConfigError, check_choice
from vae.data import ImageDataModule
from vae.model import LatentModel
from vae.progress import through


@torch.no_grad()
def direction(
    model: LatentModel, data: ImageDataModule, attribute: str, split: str = "train", limit: int = 20_000
) -> Float[Tensor, " D"]:
    """Return the mean of E[z|x] over images with the attribute, minus the mean over images without it.

    Args:
        model: the model.
        data: a data set with attributes, set up.
        attribute: the name of one of them.
        split: the split whose images are used.
        limit: the largest number of images used.

    Raises:
        ConfigError: the set has no such attribute, or all or none of the images have it.

    Source: A. Larsen et al., Autoencoding beyond pixels using a learned similarity metric, 2016, section 4.2.
    """
    names, values = data.attributes(split)
    has_it = values[:limit, names.index(check_choice("attribute", attribute, names))]
    if has_it.all() or not has_it.any():
        raise ConfigError(
            f"attribute={attribute}: {'all' if has_it.any() else 'none'} of the {split} images have it"
        )
    return difference_of_means(latents(model, data, split, len(has_it)), has_it)


def difference_of_means(z: Float[Tensor, "N D"], has_it: Bool[Tensor, " N"]) -> Float[Tensor, " D"]:
    """Return the mean of the rows that have the attribute minus the mean of those that do not."""
    return z[has_it.to(z.device)].mean(0) - z[~has_it.to(z.device)].mean(0)


@torch.no_grad()
def latents(model: LatentModel, data: ImageDataModule, split: str, count: int) -> Float[Tensor, "N D"]:
    """Return E[z|x] of the first `count` images of a split, computed batch by batch."""
    batches = through(data.batches(split, count), "encoding", -(-count // 512))
    return torch.cat([model.encode(x.to(model.device)).mean for x in batches])
