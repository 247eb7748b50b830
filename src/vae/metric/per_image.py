"""Metrics that need a number, or a row of numbers, for every image at once."""

import math

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class PerImage(Metric):
    """A metric that keeps rows for every image and returns them in the order of the images.

    The order is the same for any number of ranks.

    Args:
        **rows: for each kind of row, an empty tensor (0, …) with the shape and type of such rows.
    """

    full_state_update = False

    def __init__(self, **rows: Tensor):
        super().__init__()
        self.empty = {"positions": torch.empty(0, dtype=torch.int64), **rows}
        for name in self.empty:
            self.add_state(name, [], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget all images."""
        super().reset()
        # A rank that got no batch must still take part in gathering, with rows of the right shape.
        for name, empty in self.empty.items():
            setattr(self, name, [empty.to(self.device)])

    def add(self, first: int, **rows: Shaped[Tensor, "B ..."]) -> None:
        """Add the rows of a batch. `first` is the position of its first image in the split."""
        size = len(next(iter(rows.values())))
        rows["positions"] = torch.arange(first, first + size, device=self.device)
        for name, values in rows.items():
            getattr(self, name).append(values.detach().to(self.empty[name].dtype))

    def rows(self, name: str) -> Shaped[Tensor, "N ..."]:
        """Return the rows of one kind, for all images so far."""
        positions: list[Tensor] = getattr(self, "positions")  # noqa: B009  a state, which mypy cannot know
        return dim_zero_cat(getattr(self, name))[dim_zero_cat(positions).argsort()]


def standard_error(values: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Return the standard error of the mean of independent values. It is NaN for a single value."""
    if len(values) < 2:
        return values.new_tensor(math.nan)
    return values.std() / math.sqrt(len(values))
