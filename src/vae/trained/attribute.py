"""Latent arithmetic: moving images along what sets those with an attribute apart from those without."""

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
    """mean of E[z|x] over images with the attribute, minus the mean over those without.

    Args:
        model: the model.
        data: a set with attributes, set up.
        attribute: one of their names.
        split: which images to use.
        limit: how many of them at most.

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
    """The mean of the rows that have it minus the mean of those that have not."""
    return z[has_it.to(z.device)].mean(0) - z[~has_it.to(z.device)].mean(0)


@torch.no_grad()
def latents(model: LatentModel, data: ImageDataModule, split: str, count: int) -> Float[Tensor, "N D"]:
    """E[z|x] of the first `count` images of a split, a batch at a time."""
    batches = through(data.batches(split, count), "encoding", -(-count // 512))
    return torch.cat([model.encode(x.to(model.device)).mean for x in batches])
