"""Sheets: images side by side with a title and labels. Some of them show what a model does."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from vae.model import LatentModel
from vae.picture.latent_walk import SIDE, interpolate, manifold, quantiles, traverse
from vae.random import generator

TILE = 64
"""The size in pixels to which smaller images are enlarged, approximately.

The factor is a whole number, so that the images stay crisp.
"""
PAD, GAP = 4, 12
"""The pixels between images, and the additional pixels between groups of images."""
TRAVERSED = 10
"""The largest number of latents in a traversal, which shows those with the largest rates."""


@dataclass(frozen=True)
class Sheet:
    """Images in rows, on a white background like paper.

    Args:
        images: the images, row by row, in [0, 1].
        columns: the number of images in a row.
        title: what the images are.
        row_names: one name for each row, or none.
        column_names: one name for each column, or none; some may be empty if there is no space for all.
        x: the quantity whose values the column names are.
        y: the quantity whose values the row names are.
        group: the number of images of a row that belong together, such as the two of a pair. There is more space
            between groups.
    """

    images: Float[Tensor, "N C H W"]
    columns: int
    title: str = ""
    row_names: Sequence[str] = ()
    column_names: Sequence[str] = ()
    x: str = ""
    y: str = ""
    group: int = 1

    @property
    def rows(self) -> int:
        """The number of rows."""
        return math.ceil(len(self.images) / self.columns)

    @property
    def tile(self) -> tuple[int, int]:
        """The height and the width of an image on the sheet, in pixels."""
        height, width = self.images.shape[-2:]
        # If there are many columns, enlarging images that are visible at their own size only makes a large file.
        factor = max(1, round((TILE if self.columns <= 16 else TILE / 2) / max(height, width)))
        return factor * height, factor * width

    def pixels(self) -> UInt8[np.ndarray, "..."]:
        """Return the images as one array of bytes, (H, W) if grey and (H, W, 3) if not."""
        (height, width), (rows, columns) = self.tile, (self.rows, self.columns)
        lefts = column_starts(columns, width, self.group)
        shape = (PAD + rows * (height + PAD), lefts[-1] + width + PAD, self.images.shape[1])
        canvas = np.full(shape, 255, np.uint8)
        factor = height // self.images.shape[-2]
        for place, image in enumerate(self.images):
            row, column = divmod(place, columns)
            top, left = PAD + row * (height + PAD), lefts[column]
            enlarged = np.atleast_3d(as_bytes(image)).repeat(factor, 0).repeat(factor, 1)
            canvas[top : top + height, left : left + width] = enlarged
        return canvas[..., 0] if canvas.shape[-1] == 1 else canvas


def column_starts(columns: int, width: int, group: int) -> list[int]:
    """Return the pixel at which each column of a sheet begins."""
    gaps = GAP if group > 1 else 0
    return [PAD + column * (width + PAD) + column // group * gaps for column in range(columns)]


def as_bytes(image: Float[Tensor, "C H W"]) -> UInt8[np.ndarray, "..."]:
    """Return an image in [0, 1] as bytes, (H, W) if grey and (H, W, 3) if not."""
    pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return (pixels[0] if len(pixels) == 1 else pixels.movedim(0, -1)).numpy()


def latent_name(number: int) -> str:
    """Return the name of the latent with this index (from 0) in all pictures: z₁, z₂, …"""
    return "z" + str(number + 1).translate(str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉"))


def samples_sheet(images: Float[Tensor, "N C H W"], title: str) -> Sheet:
    """Return a sheet with the images in a square."""
    return Sheet(images, math.ceil(math.sqrt(len(images))), title)


def reconstructions_sheet(
    x: Float[Tensor, "B C H W"],
    restored: Float[Tensor, "B C H W"],
    seen: Float[Tensor, "B C H W"] | None = None,
    of: str = "test images",
) -> Sheet:
    """Return a sheet with each image beside its reconstruction.

    If the encoder sees something else than the image, that (`seen`) is between the two.

    Args:
        x: the images.
        restored: their reconstructions.
        seen: what the encoder sees of them, if that is not x.
        of: a name for the images.
    """
    kinds = [x, restored] if seen is None else [x, seen, restored]
    together = torch.stack([kind.cpu() for kind in kinds], 1).flatten(0, 1)
    what = (
        "an image and its reconstruction" if seen is None else "an image, what is seen of it, its reconstruction"
    )
    groups = min(len(x), 6 if seen is None else 4)
    return Sheet(together, groups * len(kinds), f"{of[0].upper()}{of[1:]}: {what}", group=len(kinds))


def interpolation_sheet(
    model: LatentModel,
    start: Float[Tensor, "R C H W"],
    end: Float[Tensor, "S C H W"],
    steps: int = 10,
    kind: str = "linear",
) -> Sheet:
    """Return a sheet with the path between the codes of two images.

    There is a row for each pair of images.
    """
    way = interpolate(model, start, end, steps, kind)
    title = f"From the code of one image (left) to that of another (right), {kind} interpolation"
    return Sheet(way.flatten(0, 1), steps, title)


def traversal_sheet(
    model: LatentModel,
    centre: Float[Tensor, " D"],
    rates: Float[Tensor, " D"],
    steps: int = 11,
    span: float = 3.0,
    of: str = "a test image",
) -> Sheet:
    """Return a sheet with a row for each of the latents with the largest rates, from −span to span.

    Args:
        model: the model.
        centre: the code whose values the other latents keep.
        rates: the rate of each latent, in nats.
        steps: the number of images in a row.
        span: the largest value of the latent.
        of: what `centre` is the code of.
    """
    order = rates.argsort(descending=True)[:TRAVERSED]
    way = traverse(model, centre, steps, span)[order.to(model.device)]
    names = [f"{latent_name(d)}  {rates[d]:.2f}" for d in order.tolist()]
    values = [_short(value) for value in torch.linspace(-span, span, steps).tolist()]
    which = f"The {len(order)} latents of the largest rates" if len(rates) > len(order) else "Each latent"
    title = f"{which} from −{span:g} to {span:g}, the others as in the code of {of}"
    return Sheet(way.flatten(0, 1), steps, title, names, values, x="value of the latent", y="latent, rate in nats")


def manifold_sheet(model: LatentModel, side: int = SIDE) -> Sheet:
    """Return, for a model with two latents, a sheet with images over a grid of equally probable z."""
    half = [round(place) for place in torch.linspace(0, side / 2 - 1, 3).tolist()]
    named = {*half, *(side - 1 - place for place in half)}
    names = [_short(v) if i in named else "" for i, v in enumerate(quantiles(side).tolist())]
    title = "E[x|z] over a grid of equally probable z"
    return Sheet(manifold(model, side), side, title, names[::-1], names, x=latent_name(0), y=latent_name(1))


def movement_sheet(way: Float[Tensor, "B S C H W"], strengths: Float[Tensor, " S"], attribute: str) -> Sheet:
    """Return a sheet with a row for each image and one attribute changed along the row.

    The attribute is taken away on the left and added on the right.
    """
    names = [_short(strength) for strength in strengths.tolist()]
    title = f"{attribute}: taken away (left) and added (right)"
    return Sheet(
        way.flatten(0, 1), way.shape[1], title, column_names=names, x=f"times the direction of {attribute}"
    )


def _short(value: float) -> str:
    """Return a number as text, with at most two decimals and a minus sign that is not a hyphen."""
    return f"{round(value, 2) + 0:g}".replace("-", "−")


def seen_by_encoder(
    corruption: nn.Module | None, x: Float[Tensor, "B C H W"], seed: int
) -> Float[Tensor, "B C H W"] | None:
    """Return what the encoder sees of x, the same at every call, or None if that is x itself."""
    if corruption is None or isinstance(corruption, nn.Identity):
        return None
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.set_state(generator("corruption pictures", seed).get_state())
        return corruption(x.cpu()).to(x)
