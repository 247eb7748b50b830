"""python -m benchmarks data_wait: the share of training in which a step waits for its images.

The share is a part of the time from an epoch's start to its validation. The waiting time is the time in the data
loader's `next`, which gathers the bytes of a batch (or of a group of batches), and the time for turning them into
floats. The first epoch is not counted.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer

from benchmarks.spread import spread
from benchmarks.workload import WORKLOADS, Workload, composed, write_images
from vae.command.command import quiet_libraries
from vae.data import Batch, BatchGroup, ImageDataModule
from vae.training.build import build_module, build_trainer, finish_loggers, hide_unused_gpus

CASES = ("mlp_128", "conv_64")


class Waiting:
    """A context that adds up the seconds spent inside it."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __enter__(self) -> None:
        self._began = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self.seconds += time.perf_counter() - self._began


class TimedLoader:
    """A data loader whose `next` is timed."""

    def __init__(self, batches: Any, waiting: Waiting):
        self.batches, self.waiting = batches, waiting
        self.batch_sampler = batches.batch_sampler  # the progress line counts the steps from it

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch | BatchGroup]:
        with self.waiting:
            iterator = iter(self.batches)
        while True:
            with self.waiting:
                batch = next(iterator, None)
            if batch is None:
                return
            yield batch


def time_data(data: ImageDataModule, waiting: Waiting) -> None:
    """Time everything that the data module does between an epoch's start and its end."""
    loader, ready = data.train_dataloader, data.ready

    def timed_ready(batch: Batch) -> Batch:
        with waiting:
            return ready(batch)

    data.train_dataloader = lambda: TimedLoader(loader(), waiting)  # type: ignore[method-assign, assignment, return-value]
    data.ready = timed_ready  # type: ignore[method-assign]


class Shares(Callback):
    """A callback that records, for each epoch, the share of time spent waiting."""

    def __init__(self, waiting: Waiting):
        self.waiting, self.found = waiting, list[float]()
        self._began = self._waited = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._began, self._waited = time.perf_counter(), self.waiting.seconds

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        waited = self.waiting.seconds - self._waited
        self.found.append(waited / (time.perf_counter() - self._began))


def share(workload: Workload, epochs: int) -> dict[str, float]:
    """Return the median, the least and the most of the shares of some epochs."""
    waiting = Waiting()
    with tempfile.TemporaryDirectory() as folder:
        write_images(workload, Path(folder))
        config = composed(workload, Path(folder), f"trainer.max_epochs={epochs + 1}")
        data: ImageDataModule = instantiate(config.data)
        time_data(data, waiting)
        trainer = build_trainer(config)
        module = build_module(config, data, trainer)
        shares = Shares(waiting)
        trainer.callbacks.append(shares)  # type: ignore[attr-defined]
        hide_unused_gpus(trainer)
        try:
            trainer.fit(module, data)
        finally:
            finish_loggers(trainer)
    counted = shares.found[1:]
    assert len(counted) == epochs
    return spread(counted)


def measure(epochs: int) -> dict[str, dict[str, float]]:
    """Return the shares by workload.

    Each is measured in a new process, because a trainer's settings apply to the whole process.
    """
    found = {}
    for name in CASES:
        command = [sys.executable, "-m", "benchmarks.data_wait", name, str(epochs)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    quiet_libraries()
    torch.set_num_threads(1)
    print(json.dumps(share(WORKLOADS[sys.argv[1]], int(sys.argv[2]))))
