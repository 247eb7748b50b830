"""python -m benchmarks own_time: the framework's own part of the processor time of an optimiser step.

`framework` is a step within `trainer.fit` on the workload mlp_128, as `train.py` would take it: all logging and
callbacks on, steps_at_once=auto. Its time is counted from the start of an epoch to the start of the validation. So
it includes the epoch's order, fetching images and turning them into floats, logged means and Lightning's loop.
`model` is zero_grad, forward pass, loss, backward pass and optimiser step of the framework's own model, objective
and optimiser in a plain loop over float batches in memory. The framework's own time is the difference between the
two.

These things could make the result misleading, and this is done about them:

* The machine is not equally fast at all times. So the two take turns in one process, with the same allocator,
  libraries and threads. A turn has as many steps as the framework takes at once: whenever the framework asks for
  its next images, the plain loop first takes as many steps.
* The first steps are slower, because some things are made only once. The first epoch is not counted.
* At the start of each turn, the processor's caches are full of the other's weights. So a second plain loop,
  `control`, takes turns too, and changes places with the first. The time that it takes beyond that of the first is
  what the method would report as own time when there is none.
* A step could be left out, or steps could be taken in another way than by default. Both are counted and reported.

tests/test_benchmarks.py adds a delay to the framework's step and finds it in the result.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch import Tensor

from benchmarks.bare import framework_loss, trained
from benchmarks.spread import spread
from benchmarks.workload import WORKLOADS, Workload, composed, write_images
from vae.command.command import quiet_libraries
from vae.data import ImageDataModule
from vae.data.batches import Draw
from vae.data.image_data import Batch, BatchGroup, ImageSubset
from vae.training.build import build_module, build_trainer, finish_loggers, hide_unused_gpus

WORKLOAD = "mlp_128"
BATCHES = 16
"""The number of batches that a plain loop uses again and again, because it does not fetch images."""
Steps = Callable[[int], None]
"""A function that takes the given number of optimiser steps."""


@dataclass
class Epoch:
    """The processor seconds of an epoch's training part, by loop, and the number of the framework's steps."""

    seconds: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def milliseconds(self, name: str) -> float:
        """Return the milliseconds of a step."""
        return self.seconds[name] / self.steps * 1e3


class Turns(Callback):
    """A callback that lets the plain loops take their turns while the framework trains, and keeps the time.

    Args:
        plain: the loops by name. Which of them begins changes from turn to turn.
    """

    def __init__(self, plain: dict[str, Steps]):
        self.plain, self.epochs = plain, list[Epoch]()
        self._began = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs.append(Epoch(dict.fromkeys(self.plain, 0.0), -trainer.global_step))
        self._began = time.process_time()

    def take(self, steps: int) -> None:
        """Take this number of steps of each plain loop."""
        self.plain = dict(reversed(self.plain.items()))
        seconds = self.epochs[-1].seconds
        for name, loop in self.plain.items():
            began = time.process_time()
            loop(steps)
            seconds[name] += time.process_time() - began

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = self.epochs[-1]
        epoch.seconds["framework"] = time.process_time() - self._began - sum(epoch.seconds.values())
        epoch.steps += trainer.global_step


class ImagesInTurns(ImageSubset):
    """Training images that let the plain loops take their turn before the images of the next steps are read."""

    def __init__(self, images: ImageSubset, turns: Turns):
        super().__init__(images.source, images.members)
        self.turns = turns

    def __getitems__(self, asked: Draw | list[Draw]) -> Batch | BatchGroup:
        self.turns.take(1 if isinstance(asked, Draw) else len(asked))
        return super().__getitems__(asked)


def plain_loop(config: DictConfig, data: ImageDataModule) -> Steps:
    """Return a plain loop with the framework's model, objective and optimiser."""
    model, loss = framework_loss(config, data.image_shape)
    optimizer = instantiate(config.optimizer)(model.parameters())
    size = config.data.batch_size
    batches: list[Tensor] = list(data.images("train", BATCHES * size)[0].split(size))

    def steps(count: int) -> None:
        trained(loss, optimizer, (batches[step % len(batches)] for step in range(count)))

    return steps


def epochs_in_turns(workload: Workload, folder: Path, epochs: int) -> tuple[list[Epoch], int]:
    """Train for some epochs; return their times, and the number of steps that the framework took at once."""
    config = composed(workload, folder, f"trainer.max_epochs={epochs}")
    data = instantiate(config.data)
    data.prepare_data()
    data.setup()
    turns = Turns({name: plain_loop(config, data) for name in ("model", "control")})
    data.subsets["train"] = ImagesInTurns(data.subsets["train"], turns)
    trainer = build_trainer(config)
    module = build_module(config, data, trainer)
    hide_unused_gpus(trainer)
    trainer.callbacks.append(turns)  # type: ignore[attr-defined]
    try:
        trainer.fit(module, data)
    finally:
        finish_loggers(trainer)
    return turns.epochs, data.steps_at_once


def summary(epochs: list[Epoch], steps_at_once: int) -> dict[str, Any]:
    """Return the milliseconds of a step: medians over the epochs, and the spread of the differences.

    The first epoch is left out.
    """
    counted = epochs[1:]

    def beyond_model(name: str) -> dict[str, float]:
        return spread([epoch.milliseconds(name) - epoch.milliseconds("model") for epoch in counted])

    return {
        "epochs": len(counted),
        "steps": counted[0].steps,
        "steps_at_once": steps_at_once,
        "framework_milliseconds": median(epoch.milliseconds("framework") for epoch in counted),
        "model_milliseconds": median(epoch.milliseconds("model") for epoch in counted),
        "own_milliseconds": beyond_model("framework"),
        "control_milliseconds": beyond_model("control"),
    }


def measure(epochs: int) -> dict[str, Any]:
    """Measure in a new process, because a trainer's settings apply to the whole process."""
    command = [sys.executable, "-m", "benchmarks.own_time", str(epochs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(epochs: int) -> None:
    """Measure with one thread and print the result as JSON.

    The first epoch is not counted; `epochs` is the number of the others.
    """
    torch.set_num_threads(1)
    quiet_libraries()
    workload = WORKLOADS[WORKLOAD]
    with tempfile.TemporaryDirectory() as folder:
        write_images(workload, Path(folder))
        print(json.dumps(summary(*epochs_in_turns(workload, Path(folder), epochs + 1))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
