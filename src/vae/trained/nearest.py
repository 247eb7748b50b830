"""The training images that are nearest to given images."""

import torch
from jaxtyping import Float
from torch import Tensor

from vae.data import ImageDataModule
from vae.progress import through


@torch.no_grad()
def nearest(
    images: Float[Tensor, "N C H W"], data: ImageDataModule, neighbors: int, batch_size: int = 2000
) -> tuple[Float[Tensor, "N k C H W"], Float[Tensor, "N k"]]:
    """Return the training images nearest to each image, and their distances.

    The distance is the root mean squared difference in x.

    Args:
        images: the images to compare, in [0, 1].
        data: the data module, set up.
        neighbors: the number of training images for each image, the nearest first.
        batch_size: the number of training images that are compared at the same time.
    """
    flat = images.detach().cpu().clamp(0, 1).flatten(1)
    size = len(data.subsets["train"])
    best = torch.full((len(flat), 0), torch.inf)
    kept = torch.empty(len(flat), 0, *images.shape[1:])
    batches = data.batches("train", size, batch_size)
    for x in through(batches, "comparing with the training images", -(-size // batch_size)):
        distances = torch.cat([best, torch.cdist(flat, x.flatten(1)) / flat.shape[1] ** 0.5], 1)
        best, order = distances.topk(min(neighbors, distances.shape[1]), largest=False)
        kept = _gather(kept, x, order)
    return kept, best


def _gather(
    kept: Float[Tensor, "N j C H W"], x: Float[Tensor, "B C H W"], order: Tensor
) -> Float[Tensor, "N k C H W"]:
    """Return the images that `order` points to.

    The places in `order` count first the images that each row has kept, then those of the batch.
    """
    rows = []
    for own, places in zip(kept, order, strict=True):
        rows.append(torch.stack([own[p] if p < len(own) else x[p - len(own)] for p in places.tolist()]))
    return torch.stack(rows)
