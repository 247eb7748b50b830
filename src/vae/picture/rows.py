"""Pictures of what a model does, as tensors of shape (3 or 1, H, W) and as figures."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torchvision.utils import make_grid

from vae.model import LatentModel

SIDE = 56
"""Images smaller than this many pixels are enlarged to about it, by a whole factor so that they stay crisp."""


def grid(images: Float[Tensor, "N C H W"], columns: int) -> Float[Tensor, "C2 H2 W2"]:
    """Images side by side, row by row, enlarged by a whole factor if they are small, on white as paper is."""
    factor = max(1, round(SIDE / max(images.shape[-2:])))
    enlarged = images.clamp(0, 1).repeat_interleave(factor, -1).repeat_interleave(factor, -2)
    return make_grid(enlarged, nrow=columns, padding=4, pad_value=1)


def reconstructions(
    model: LatentModel, x: Float[Tensor, "B C H W"], seen: Float[Tensor, "B C H W"] | None = None
) -> Float[Tensor, "C2 H2 W2"]:
    """Rows of originals, each above the row of its reconstructions.

    Where the encoder sees something else, `seen`, that stands in a row between the two.
    """
    columns = 8
    restored = model.reconstruct(x if seen is None else seen)
    kinds = [images.split(columns) for images in (x, seen, restored) if images is not None]
    return grid(torch.cat([row for rows in zip(*kinds, strict=True) for row in rows]), columns)


def samples(model: LatentModel, z: Float[Tensor, "N D"]) -> Float[Tensor, "C2 H2 W2"]:
    """E[x|z] for the given z, in a square."""
    return grid(model.decode(z).mean, math.ceil(math.sqrt(len(z))))


def interpolations(
    model: LatentModel, start: Float[Tensor, "R C H W"], end: Float[Tensor, "R C H W"], steps: int = 10
) -> Float[Tensor, "C2 H2 W2"]:
    """A row for each pair of images: along the line between their posterior means."""
    a, b = model.encode(start).mean, model.encode(end).mean
    weights = torch.linspace(0, 1, steps, device=a.device)
    z = torch.lerp(a[:, None], b[:, None], weights[None, :, None])  # (R, steps, D)
    return grid(model.decode(z.flatten(0, 1)).mean, steps)


def manifold(model: LatentModel, side: int = 20) -> Float[Tensor, "C2 H2 W2"]:
    """For D = 2: E[x|z] on a grid of equally probable z (Kingma & Welling 2014, figure 4)."""
    quantiles = torch.special.ndtri(torch.linspace(0.5 / side, 1 - 0.5 / side, side)).to(model.device)
    z = torch.cartesian_prod(quantiles.flip(0), quantiles).flip(1)  # rows: z₂ falls; columns: z₁ rises
    return grid(model.decode(z).mean, side)


def save_latent_scatter(path: str, mean: Float[Tensor, "N 2"], labels: Int64[Tensor, " N"]) -> None:
    """For D = 2: the posterior means, coloured by label, as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5), layout="constrained")
    axes = figure.add_subplot()
    first, second = mean.cpu().T.numpy()
    points = axes.scatter(first, second, c=labels.numpy(), cmap="tab10", s=6, alpha=0.7)
    axes.set(xlabel="E[z₁|x]", ylabel="E[z₂|x]", aspect="equal")
    axes.legend(*points.legend_elements(), title="label", loc="center left", bbox_to_anchor=(1, 0.5))
    figure.savefig(path, dpi=120)
