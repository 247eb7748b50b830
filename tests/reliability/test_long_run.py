"""Ten thousand steps take no more memory, files and threads than two thousand."""

import gc
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from hydra.utils import instantiate
from lightning import Callback, Trainer
from omegaconf import DictConfig

from vae.training.build import build_module, build_trainer


class Used(NamedTuple):
    """What this process holds: megabytes of memory, open files, threads."""

    memory: float
    files: int
    threads: int


def used() -> Used:
    gc.collect()  # of figures that are drawn, their canvases wait for it
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    memory = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    return Used(memory, len(os.listdir("/proc/self/fd")), threading.active_count())


class Watching(Callback):
    """Notes what is used after 2,000 steps and at the end."""

    def __init__(self) -> None:
        self.noted: dict[int, Used] = {}

    def on_train_epoch_end(self, trainer: Trainer, *args: object) -> None:
        if trainer.global_step in (2000, 10_000):
            self.noted[trainer.global_step] = used()


@pytest.mark.slow
def test_nothing_grows_in_ten_thousand_steps(composed: Callable[..., DictConfig]) -> None:
    overrides = ["data.batch_size=62", "trainer.max_epochs=500", "trainer.accelerator=cpu", "logger=csv"]
    config = composed(*overrides, "callback.pictures.every_n_epochs=50", "callback.progress=null")
    data = instantiate(config.data)
    trainer = build_trainer(config)
    module = build_module(config, data, trainer)
    watching = Watching()
    trainer.callbacks.append(watching)
    trainer.fit(module, data)
    early, late = watching.noted[2000], watching.noted[10_000]
    assert (late.files, late.threads) == (early.files, early.threads)
    # The rows of metrics.csv are kept in memory.
    assert late.memory < early.memory + 20
