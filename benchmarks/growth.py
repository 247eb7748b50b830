"""python -m benchmarks growth: how a training step's cost grows with k, latent size, image size and set size.

Each point is trained by the framework itself on random images in memory, with one thread. The time is processor
time, so that other work on the machine matters less. It is that of the quickest of `EPOCHS` epochs, without the
first, and is divided by the steps or the images. The memory is what a step allocates (`benchmarks.memory`).
"""

import tempfile
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

from benchmarks.memory import peak_mebibytes
from benchmarks.random_images import RandomImages
from benchmarks.workload import BURDA, CONV, MLP, composed_step
from vae.command.command import quiet_libraries
from vae.training.build import build_module, build_trainer, hide_unused_gpus

EPOCHS = 3
GREY = (1, 28, 28)
DRAWS = (1, 2, 5, 10, 20, 50, 100)
LATENTS = (2, 8, 32, 128, 512, 2048)
SIDES = (16, 32, 64, 128)
COUNTS = (2_000, 8_000, 32_000, 128_000, 512_000)


class Epochs(Callback):
    """A callback that records the processor seconds of each epoch's training part.

    It also records the seconds until the first epoch.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.began = time.process_time()
        self.until_first = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.until_first = self.until_first or time.process_time() - self.began
        self.began = time.process_time()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds.append(time.process_time() - self.began)


def trained(overrides: tuple[str, ...], shape: tuple[int, int, int], batch: int, steps: int) -> Epochs:
    """Train with `steps` batches in an epoch, each of `batch` images of this shape."""
    with tempfile.TemporaryDirectory() as folder:
        config = composed_step(
            *overrides,
            f"paths.run={folder}",
            f"trainer.max_epochs={EPOCHS}",
            "+trainer.limit_val_batches=1",
        )
        data = RandomImages(batch * steps, shape, batch_size=batch, binarize=config.data.binarize)
        trainer = build_trainer(config)
        module = build_module(config, data, trainer)
        hide_unused_gpus(trainer)
        watch = Epochs()
        trainer.callbacks.append(watch)  # type: ignore[attr-defined]
        trainer.fit(module, data)
    return watch


def milliseconds(overrides: tuple[str, ...], shape: tuple[int, int, int], batch: int, steps: int) -> float:
    """Return the milliseconds of a step."""
    return min(trained(overrides, shape, batch, steps).seconds[1:]) / steps * 1e3


def by_draws(*overrides: str) -> list[dict[str, float]]:
    """Measure 784-200-200-50 under IWAE, for each number of draws, with 100 images in a step."""
    points = []
    for k in DRAWS:
        options = (*BURDA, "objective=iwae", f"objective.k={k}", *overrides)
        points.append(
            {
                "k": k,
                "milliseconds": milliseconds(options, GREY, 100, max(4, 100 // k)),
                "mebibytes": peak_mebibytes(options, torch.rand(100, *GREY)),
            }
        )
    return points


def by_latents() -> list[dict[str, float]]:
    """Measure 784-400-D, for each latent size D, with 128 images in a step."""
    options = [(*MLP[:2], f"latent_size={d}") for d in LATENTS]
    return [
        {"latent_size": d, "milliseconds": milliseconds(option, GREY, 128, 50)}
        for d, option in zip(LATENTS, options, strict=True)
    ]


def by_sides() -> list[dict[str, float]]:
    """Measure network=conv, with 32 images of 3×S×S in a step, for each side S."""
    return [
        {
            "side": side,
            "milliseconds": milliseconds(CONV, (3, side, side), 32, 6),
            "mebibytes": peak_mebibytes(CONV, torch.rand(32, 3, side, side)),
        }
        for side in SIDES
    ]


def by_counts() -> list[dict[str, float]]:
    """Measure 784-64-20 on N images, for each N, with 500 images in a step.

    The model is small, so that little besides reading the images takes time.
    """
    points = []
    for count in COUNTS:
        options = ("likelihood=bernoulli", "network.hidden_sizes=[64]", "latent_size=20")
        found = trained(options, GREY, 500, count // 500)
        points.append(
            {
                "images": count,
                "microseconds": min(found.seconds[1:]) / count * 1e6,
                "seconds_until_first_epoch": found.until_first,
            }
        )
    return points


def measure() -> dict[str, Any]:
    """Measure every line of the plots, with one thread."""
    torch.set_num_threads(1)
    quiet_libraries()
    return {
        "threads": 1,
        "draws": by_draws(),
        "draws, objective.chunk=5": by_draws("objective.chunk=5"),
        "latent_size": by_latents(),
        "side": by_sides(),
        "images": by_counts(),
    }
