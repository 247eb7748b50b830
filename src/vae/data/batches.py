"""Which images make up which batch, on which rank, and the key from which that batch's noise is drawn."""

from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Sampler

from vae.checks import ConfigError
from vae.random import draw_key, generator


class Draw(NamedTuple):
    """One batch to fetch: positions in the data set, the key of its noise, and whether it counts.

    Of a training batch it is the share that `rank` has, of `ranks` that have one key; evaluated batches are whole.
    """

    positions: Int64[Tensor, " B"]
    key: int
    counts: bool
    rank: int = 0
    ranks: int = 1


class TrainBatches(Sampler[Draw]):
    """Shuffled batches for training, a pure function of (seed, epoch, rank).

    One permutation of the whole set is cut into global batches of `batch_size`, and each rank takes its
    equal share of every one, so that 1 and 2 devices make the same steps: of the draws, too, each rank uses those
    for its share. The incomplete batch at the end
    is left out (the next epoch leaves out others); a set smaller than a batch is one batch.

    Raises:
        ConfigError: the batch cannot be shared out equally over `world_size` ranks.
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        batch_size = min(batch_size, size // world_size * world_size)
        if batch_size < 1 or batch_size % world_size:
            raise ConfigError(
                f"data.batch_size={batch_size}: must be a multiple of the number of devices, {world_size}"
            )
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size, self.epoch = rank, world_size, 0
        # Lightning tells the epoch not to a batch sampler but to that one's own sampler.
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order `iter` gives (called by Lightning)."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.size // self.batch_size

    def __iter__(self) -> Iterator[Draw]:
        order = torch.randperm(self.size, generator=generator("order", self.seed, self.epoch))
        share = self.batch_size // self.world_size
        for batch in range(len(self)):
            start = batch * self.batch_size + self.rank * share
            # The 0 was once the rank's: one rank's draws are still what they were.
            key = draw_key("train", self.seed, self.epoch, batch, 0)
            yield Draw(order[start : start + share], key, True, self.rank, self.world_size)


class Groups(Sampler[list[Draw]]):
    """The batches of `batches`, `size` of them at a time (the last ones of an epoch may be fewer)."""

    def __init__(self, batches: TrainBatches, size: int):
        self.batches, self.size = batches, size
        # Lightning tells the epoch not to a batch sampler but to that one's own sampler.
        self.sampler = batches

    def __len__(self) -> int:
        return -(-len(self.batches) // self.size)

    def __iter__(self) -> Iterator[list[Draw]]:
        draws = iter(self.batches)
        while group := list(islice(draws, self.size)):
            yield group


class EvalBatches(Sampler[Draw]):
    """Batches for evaluation: every image once, in order, whatever the number of ranks.

    Rank r takes whole batches r, r + world_size, …; a batch's content and noise key do not depend on the
    rank, so that the metrics do not either. Ranks left without a batch at the end get the first batch
    again, marked as not counting, because the ranks must make the same number of steps.
    """

    def __init__(self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1):
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.batches = -(-size // batch_size)

    def __len__(self) -> int:
        return -(-self.batches // self.world_size)

    def __iter__(self) -> Iterator[Draw]:
        for step in range(len(self)):
            batch = step * self.world_size + self.rank
            counts = batch < self.batches
            start = batch * self.batch_size if counts else 0
            positions = torch.arange(start, min(start + self.batch_size, self.size))
            yield Draw(positions, draw_key("eval", self.seed, start), counts)
