"""python -m benchmarks own_time: the processor time of an optimiser step that is the framework's own.

`framework`: a step within `trainer.fit` on the workload mlp_128, as `train.py` would take it: all logging and
callbacks on, steps_at_once=auto. It is counted from the start of an epoch to that of its validation, so that the
epoch's order, fetching images and turning them into floats, logged means and Lightning's loop all belong to it.
`model`: zero_grad, forward pass, loss, backward pass and optimiser step of the framework's own model, objective
and optimiser in a plain loop over float batches that are there already. The framework's own time is what
lies between the two.

How it could mislead, and what is done about it:

* The machine is not equally fast at all times. So both take turns of as many steps as the framework takes at
  once, in one process, with the same allocator, libraries and threads: whenever the framework asks for its next
  images, the plain loop first takes as many steps.
* The first steps are slower, by what is made once. The first epoch does not count.
* Each turn finds the processor's caches full of the other's weights. A second plain loop, `control`, takes turns,
  too, and changes places with the first: what it takes beyond that one is what the method itself would call own
  time where there is none.
* A step could be left out, or steps taken otherwise than by default: both are counted, and reported.

tests/test_benchmarks.py plants a delay in the framework's step, and finds it here.
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
"""That a plain loop goes round and round, as it has no part in fetching images."""
Steps = Callable[[int], None]
"""Takes so many optimiser steps."""


@dataclass
class Epoch:
    """Processor seconds of the training part of an epoch, by who had them, and the framework's steps."""

    seconds: dict[str, float] = field(default_factory=dict)
    steps: int = 0

    def milliseconds(self, name: str) -> float:
        """Of a step."""
        return self.seconds[name] / self.steps * 1e3


class Turns(Callback):
    """Lets the plain loops take their turns while the framework trains, and keeps the time.

    Args:
        plain: the loops by name; who begins changes from turn to turn.
    """

    def __init__(self, plain: dict[str, Steps]):
        self.plain, self.epochs = plain, list[Epoch]()
        self._began = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.epochs.append(Epoch(dict.fromkeys(self.plain, 0.0), -trainer.global_step))
        self._began = time.process_time()

    def take(self, steps: int) -> None:
        """As many steps of each plain loop."""
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
    """Training images; whoever asks for those of the next steps lets the others take their turn first."""

    def __init__(self, images: ImageSubset, turns: Turns):
        super().__init__(images.source, images.members)
        self.turns = turns

    def __getitems__(self, asked: Draw | list[Draw]) -> Batch | BatchGroup:
        self.turns.take(1 if isinstance(asked, Draw) else len(asked))
        return super().__getitems__(asked)


def plain_loop(config: DictConfig, data: ImageDataModule) -> Steps:
    """The framework's model, objective and optimiser in a plain loop."""
    model, loss = framework_loss(config, data.image_shape)
    optimizer = instantiate(config.optimizer)(model.parameters())
    size = config.data.batch_size
    batches: list[Tensor] = list(data.images("train", BATCHES * size)[0].split(size))

    def steps(count: int) -> None:
        trained(loss, optimizer, (batches[step % len(batches)] for step in range(count)))

    return steps


def epochs_in_turns(workload: Workload, folder: Path, epochs: int) -> tuple[list[Epoch], int]:
    """Train for so many epochs; their times, and how many steps the framework took at once."""
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
    """Milliseconds a step: medians over the epochs but the first, and the spread of the differences."""
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
    """In a process of its own, as what a trainer sets is the whole process's."""
    command = [sys.executable, "-m", "benchmarks.own_time", str(epochs)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main(epochs: int) -> None:
    """Measure over so many epochs beside the first, one thread, and print it as JSON."""
    torch.set_num_threads(1)
    quiet_libraries()
    workload = WORKLOADS[WORKLOAD]
    with tempfile.TemporaryDirectory() as folder:
        write_images(workload, Path(folder))
        print(json.dumps(summary(*epochs_in_turns(workload, Path(folder), epochs + 1))))


if __name__ == "__main__":
    main(int(sys.argv[1]))
