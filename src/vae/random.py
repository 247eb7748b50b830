"""Every random draw of a run is a function of its seed and of what is drawn, never of what was drawn before.

A batch carries its key; before the batch is used, the generators are set from it. So the same draws come
after a resume, on any number of evaluating ranks, and whatever callbacks drew in between.
"""

import hashlib
from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor


def draw_key(*parts: int | str) -> int:
    """Return a 63-bit seed for the stream named by `parts`, for example ("train", seed, epoch, batch).

    Keys are BLAKE2b digests, so that neighbouring parts give unrelated streams.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


def set_draws(key: int, device: torch.device) -> None:
    """Start the default generators of the CPU and of `device` at `key`.

    On a GPU all of its bits count. On the CPU torch takes the lower 32, so that of some 100,000 batches two may
    have the same noise.
    """
    torch.default_generator.manual_seed(key)
    if device.type == "cuda":
        torch.cuda.manual_seed(key)


def generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator of its own for the stream named by `parts`."""
    return torch.Generator().manual_seed(draw_key(*parts))


def of_whole_batch(
    function: Callable[[Shaped[Tensor, "N ..."]], Shaped[Tensor, "N ..."]],
    share: Shaped[Tensor, "B ..."],
    rank: int,
    ranks: int,
) -> Shaped[Tensor, "B ..."]:
    """Return what a function that draws makes of the share that a rank has of a batch.

    The draws are those for the whole batch, of which each rank uses its part, so that they do not depend on the
    number of ranks.

    Args:
        function: images → as many images, each treated by itself, with draws from the default generator.
        share: the images of this rank.
        rank: whose share it is.
        ranks: all of them, with shares of one size.
    """
    if ranks == 1:
        return function(share)
    whole = share.new_zeros(ranks * len(share), *share.shape[1:])
    part = slice(rank * len(share), (rank + 1) * len(share))
    whole[part] = share
    return function(whole)[part]
