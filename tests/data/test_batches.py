"""Batches cover the set, are shared out equally, and do not depend on the number of ranks."""

from pathlib import Path

import pytest
import torch
from lightning import LightningModule, Trainer
from torch import Tensor, nn

from vae.checks import ConfigError
from vae.data import Batch
from vae.data.batches import Draw, EvalBatches, TrainBatches
from vae.data.digits import Digits
from vae.random import draw_key, of_whole_batch, set_draws


def _positions(draws: list[Draw]) -> list[int]:
    return torch.cat([draw.positions for draw in draws]).tolist()


def test_an_epoch_of_training_sees_each_image_at_most_once_and_leaves_out_less_than_a_batch() -> None:
    seen = _positions(list(TrainBatches(103, 10, seed=0)))
    assert len(seen) == len(set(seen)) == 100


def test_epochs_differ_and_repeat_exactly() -> None:
    batches = TrainBatches(64, 8, seed=0)
    first = _positions(list(batches))
    batches.set_epoch(1)
    assert _positions(list(batches)) != first
    batches.set_epoch(0)
    assert _positions(list(batches)) == first


def test_ranks_share_out_the_global_batch_of_one_process() -> None:
    alone = [set(draw.positions.tolist()) for draw in TrainBatches(60, 12, seed=3)]
    ranks = [list(TrainBatches(60, 12, seed=3, rank=rank, world_size=3)) for rank in range(3)]
    assert [{i for draw in step for i in draw.positions.tolist()} for step in zip(*ranks, strict=True)] == alone
    assert {len(draw.positions) for rank in ranks for draw in rank} == {4}


def test_no_two_batches_epochs_or_seeds_share_their_noise() -> None:
    keys = []
    for seed in (0, 1):
        for epoch in range(3):
            batches = TrainBatches(20, 4, seed)
            batches.set_epoch(epoch)
            keys += [draw.key for draw in batches]
    assert len(keys) == len(set(keys)) == 30


def test_few_batches_of_a_long_training_have_the_same_noise_on_the_cpu() -> None:
    """Two of 5,000 draws are alike by chance in 3 of 1,000 trainings, as torch seeds with 32 bits."""
    keys = [draw_key("train", 0, epoch, batch, 0) for epoch in range(50) for batch in range(100)]
    drawn = []
    for key in keys:
        set_draws(key, torch.device("cpu"))
        drawn.append(torch.randint(2**62, ()).item())
    assert len(set(drawn)) == len(drawn)


def test_the_ranks_of_a_batch_share_its_draws_out() -> None:
    ranks = [list(TrainBatches(20, 4, seed=0, rank=rank, world_size=2)) for rank in range(2)]
    assert [draw.key for draw in ranks[0]] == [draw.key for draw in ranks[1]]
    x = torch.rand(6, 1, 2, 2)
    torch.manual_seed(3)
    whole = torch.bernoulli(x)
    shares = []
    for rank in range(3):
        torch.manual_seed(3)
        shares.append(of_whole_batch(torch.bernoulli, x[2 * rank : 2 * rank + 2], rank, 3))
    assert torch.equal(torch.cat(shares), whole)


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    assert [len(draw.positions) for draw in TrainBatches(3, 100, seed=0)] == [3]
    assert [len(draw.positions) for draw in TrainBatches(1, 100, seed=0)] == [1]


def test_a_batch_that_cannot_be_shared_equally_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"data\.batch_size=10: must be a multiple of the number of devices, 3"):
        TrainBatches(60, 10, seed=0, rank=0, world_size=3)


@pytest.mark.parametrize("world_size", [1, 2, 3, 7])
@pytest.mark.parametrize(("size", "batch_size"), [(103, 10), (100, 10), (1, 10), (5, 1), (19, 7)])
def test_evaluation_counts_every_image_once_on_any_number_of_ranks(
    size: int, batch_size: int, world_size: int
) -> None:
    alone = {draw.key: draw.positions.tolist() for draw in EvalBatches(size, batch_size, seed=0)}
    ranks = [list(EvalBatches(size, batch_size, seed=0, rank=r, world_size=world_size)) for r in range(world_size)]
    assert len({len(draws) for draws in ranks}) == 1, "ranks must make the same number of steps"
    counted = [draw for draws in ranks for draw in draws if draw.counts]
    assert sorted(_positions(counted)) == list(range(size))
    # The same batches with the same noise as in one process, whoever takes them.
    assert {draw.key: draw.positions.tolist() for draw in counted} == alone


class _Recorder(LightningModule):
    """Trains nothing, and notes what Lightning hands it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[tuple[int, list[int]]]] = {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        labels = batch.label[:20].tolist()
        self.seen.setdefault(self.current_epoch, []).append((batch.key, labels))
        return self.weight.square()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        pass

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def _fit(folder: Path, epochs: int, checkpoint: Path | None = None) -> _Recorder:
    recorder = _Recorder()
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        default_root_dir=folder,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    data = Digits(batch_size=500, val_size=137)
    trainer.fit(recorder, train_dataloaders=None, datamodule=data, ckpt_path=checkpoint, weights_only=True)
    trainer.save_checkpoint(folder / "last.ckpt")
    return recorder


def test_in_training_every_epoch_has_an_order_and_noise_of_its_own_also_after_a_resume(tmp_path: Path) -> None:
    whole = _fit(tmp_path / "whole", epochs=3).seen
    keys = [key for epoch in whole.values() for key, _ in epoch]
    assert len(set(keys)) == len(keys) == 3 * 2
    assert whole[0][0][1] != whole[1][0][1]
    _fit(tmp_path / "part", epochs=1)
    resumed = _fit(tmp_path / "rest", epochs=3, checkpoint=tmp_path / "part" / "last.ckpt").seen
    assert resumed == {1: whole[1], 2: whole[2]}
