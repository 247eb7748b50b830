"""Draws that are worked on a few at a time, in the memory of a few."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

Numbers = tuple[Tensor | None, ...]


def in_chunks(function: Callable[[Tensor], Numbers], draws: Tensor, chunk: int | None, recompute: bool) -> Numbers:
    """function(draws), for `chunk` of the draws at a time.

    What lies between the draws and a chunk's results is not kept for the backward pass but computed a second time
    there, so that memory is that of one chunk and gradients are those of all.

    Args:
        function: K draws → results for each, along the first dimension; None where there is none.
        draws: along the first dimension.
        chunk: how many at a time; None for all.
        recompute: whether to compute a second time even if all are taken at once.
    """
    again = partial(checkpoint, function, use_reentrant=False) if torch.is_grad_enabled() else function
    if chunk is None or chunk >= len(draws):
        return again(draws) if recompute else function(draws)
    parts = zip(*map(again, draws.split(chunk)), strict=True)
    return tuple(None if part[0] is None else torch.cat(part) for part in parts)
