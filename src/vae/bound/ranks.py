"""Means over all ranks of a training step, for what must be known of the whole batch.

Ranks' gradients are averaged, which makes a loss that is a mean over images the same on any number of ranks. What
is no mean over images (the σ that is best for a batch, a rate that is not to fall below a bound, the statistics of
batch normalisation) is averaged by this beforehand.
"""

from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, distributed


def mean_over_ranks(value: Float[Tensor, "*N"]) -> Float[Tensor, "*N"]:
    """Return the mean of a tensor over the ranks, the same on all of them; itself where there is one.

    Every rank must call it, in the same order: in training steps only, since ranks evaluate other batches.
    """
    return _over_ranks(value) if several_ranks() else value


def of_all_ranks(share: Shaped[Tensor, "B ..."]) -> Shaped[Tensor, "N ..."]:
    """Return the shares that ranks have of a batch as one, in their order, without gradients; itself where
    there is one.

    Every rank must call it, with a share of one size.
    """
    if not several_ranks():
        return share
    shares = [torch.empty_like(share) for _ in range(distributed.get_world_size())]
    distributed.all_gather(shares, share.contiguous())
    return torch.cat(shares)


def several_ranks() -> bool:
    """Return whether there are several ranks."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


class _MeanOverRanks(torch.autograd.Function):
    """The mean, whose gradient is that of the mean of all ranks' losses."""

    @staticmethod
    def forward(value: Tensor) -> Tensor:
        mean = value / distributed.get_world_size()
        distributed.all_reduce(mean)
        return mean

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _over_ranks(gradient)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], value: Tensor) -> tuple[Tensor, int | None]:
        return _over_ranks(value), in_dims[0]


@torch.compiler.disable
def _over_ranks(value: Tensor) -> Tensor:
    return _MeanOverRanks.apply(value)
