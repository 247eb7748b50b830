"""What the jobs of one process share, and what they give back."""

import gc
import sys
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from commands import QUICK, metrics_of
from pictures_on_disk import encode, pixels, write_folder
from sweep.small_sweep import folders_of
from vae.data import ImageSet, shared_images
from vae.data.digits import Digits
from vae.data.image_folder import ImageFolder
from vae.data.shared_images import forget_images, share_images
from vae.sweep.job import give_back_everything, give_back_memory

SHORT = [*QUICK[1:], "logger=csv", "callback=none", "trainer.max_epochs=1", "metric.test.nll.k=5"]


@pytest.fixture(autouse=True)
def _nothing_is_kept() -> Iterator[None]:
    forget_images()
    yield
    give_back_everything()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows each time that the digits are read."""
    found: list[int] = []
    read = Digits.sources

    def counting(self: Digits) -> Mapping[str, ImageSet]:
        found.append(len(found))
        return read(self)

    monkeypatch.setattr(Digits, "sources", counting)
    return found


def train_here(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`python train.py arguments` in this process."""
    from vae.train import train

    monkeypatch.setattr(sys, "argv", ["train.py", *arguments])
    GlobalHydra.instance().clear()
    try:
        train()
    finally:
        GlobalHydra.instance().clear()


def test_the_jobs_of_a_sweep_read_the_images_once_and_have_the_numbers_of_runs_alone(
    reads: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, alone = tmp_path / "sweep", tmp_path / "alone"
    # Each of these makes other batches of the same images.
    axes = ["seed=0,1", "data.batch_size=64,100"]
    same = [*SHORT, "likelihood=bernoulli", "data.binarize=dynamic"]
    train_here("-m", *axes, *same, f"hydra.sweep.dir={path}", monkeypatch=monkeypatch)
    assert len(folders_of(path)) == 4
    assert len(reads) == 1
    # Given back at the end of the sweep.
    assert shared_images._kept == []
    train_here("data.batch_size=100", "seed=1", *same, f"hydra.run.dir={alone}", monkeypatch=monkeypatch)
    assert len(reads) == 2
    shared = path / "data.batch_size=100,seed=1"
    assert {**metrics_of(alone), "seconds": 0} == {**metrics_of(shared), "seconds": 0}


def test_images_are_shared_by_the_same_source_only(reads: list[int]) -> None:
    config = OmegaConf.create({"_target_": "vae.data.digits.Digits", "batch_size": 64, "split_seed": 0})

    def set_up(**options: int) -> Digits:
        data = Digits(**{"val_size": 180} | options)
        share_images(data, OmegaConf.merge(config, options))
        data.setup()
        return data

    first = set_up()
    images = weakref.ref(first.subsets["train"].source.images)
    assert set_up(batch_size=10, val_size=50).subsets["train"].source.images is images()
    assert len(reads) == 1
    del first
    # Of another source: what was kept is let go before anything new is read.
    other = set_up(split_seed=1)
    gc.collect()
    assert len(reads) == 2
    assert images() is None
    assert other.subsets["train"].source.images is not None


def test_encoded_images_are_looked_for_and_verified_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{split}/{n}.png" for split in ("train", "val", "test") for n in range(3)]
    files = {name: encode(pixels(n, 8, 8), "PNG") for n, name in enumerate(names)}
    options = {"path": str(write_folder(tmp_path / "images", files)), "cache": str(tmp_path / "cache"), "size": 8}
    calls: list[str] = []
    for name in ("find", "_image_cache"):
        method = getattr(ImageFolder, name)
        monkeypatch.setattr(ImageFolder, name, lambda self, n=name, m=method: (calls.append(n), m(self))[1])
    made = []
    for batch_size in (1, 2):
        data = ImageFolder(**options, batch_size=batch_size)
        share_images(data, OmegaConf.create(options))
        data.prepare_data()
        data.setup()
        made.append((data.images("train", 3), data.listed, data.rows))
        if batch_size == 1:
            once = list(calls)
    assert calls == once
    (first, listed, rows), (again, listed_again, rows_again) = made
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert listed is listed_again
    assert rows is rows_again


def test_what_a_job_leaves_in_cycles_is_freed_and_what_came_before_is_passed_over() -> None:
    class Cycle:
        def __init__(self) -> None:
            self.me = self

    give_back_everything()
    of_python = gc.get_freeze_count()  # 3.12 starts with some
    give_back_memory()
    frozen = gc.get_freeze_count()
    left = weakref.ref(Cycle())
    give_back_memory()
    assert left() is None
    # What is passed over may still be let go of by whoever held it.
    assert 10_000 < gc.get_freeze_count() <= frozen
    give_back_everything()
    assert gc.get_freeze_count() == of_python
