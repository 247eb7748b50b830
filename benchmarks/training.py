"""make bench: training speed against the two loops that people would write instead.

The model is 784-400-20 with a Bernoulli likelihood, batch 128, on images of MNIST's size. Three ways of
training it take turns, an epoch each, in one process:

* framework: `train.py`'s own objects, with all its logging and callbacks on;
* bare: a PyTorch loop over a float tensor in memory, the limit for any framework;
* textbook: a DataLoader over torchvision's MNIST with ToTensor for each image.

Printed are images per second of the training epochs (median over the turns) and the ratios, turn by turn.
"""

import argparse
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from lightning import Callback
from omegaconf import OmegaConf
from torch import Tensor, nn

from vae.build import build_module, build_trainer, hide_unused_gpus
from vae.cli import CONF
from vae.run import finish_loggers

BATCH = 128


class PlainVAE(nn.Module):
    """The same network as a beginner's script would have it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.latent = nn.Linear(784, 400), nn.Linear(400, 40)
        self.back, self.output = nn.Linear(20, 400), nn.Linear(400, 784)

    def loss(self, x: Tensor) -> Tensor:
        """−ELBO with the closed-form KL, one draw."""
        mean, log_variance = self.latent(F.relu(self.hidden(x))).chunk(2, 1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.output(F.relu(self.back(z)))
        cross_entropy = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (cross_entropy + kl) / len(x)


def seconds_of(model: PlainVAE, optimizer: torch.optim.Optimizer, batches: Iterable[Tensor]) -> float:
    """Train on the batches in a plain loop."""
    started = time.perf_counter()
    for x in batches:
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()
    return time.perf_counter() - started


def bare_epoch(images: Tensor) -> Callable[[], float]:
    """The loop over a float tensor in memory, shuffled, without the incomplete batch (as the framework)."""
    model = PlainVAE()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    x = images.flatten(1).float().div(255)

    def epoch() -> float:
        order = torch.randperm(len(x))[: len(x) // BATCH * BATCH]
        return seconds_of(model, optimizer, (x[rows] for rows in order.split(BATCH)))

    return epoch


def textbook_epoch(folder: Path, count: int) -> Callable[[], float]:
    """The loop over torchvision's MNIST, each image through PIL and ToTensor."""
    from torch.utils.data import DataLoader, Subset
    from torchvision import datasets, transforms

    stored = datasets.MNIST(str(folder), train=True, transform=transforms.ToTensor())
    loader = DataLoader(Subset(stored, range(count)), BATCH, shuffle=True, drop_last=True)
    model = PlainVAE()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    return lambda: seconds_of(model, optimizer, (x.flatten(1) for x, _ in loader))


class TakeTurns(Callback):
    """Times the framework's epochs, and after each lets the others run one of theirs."""

    def __init__(self, others: dict[str, Callable[[], float]]):
        self.others = others
        self.seconds: dict[str, list[float]] = {name: [] for name in ("framework", *others)}
        self._started = 0.0

    def on_train_epoch_start(self, *_: object) -> None:
        self._started = time.perf_counter()

    def on_validation_start(self, *_: object) -> None:
        self.seconds["framework"].append(time.perf_counter() - self._started)
        hidden = os.environ.pop("CUDA_VISIBLE_DEVICES", None)  # a script of one's own would not set it
        with torch.enable_grad(), torch.inference_mode(False):
            for name, epoch in self.others.items():
                self.seconds[name].append(epoch())
        if hidden is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = hidden


def write_idx(folder: Path, part: str, images: Tensor, labels: Tensor) -> None:
    """Write images and labels in MNIST's file format."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(n.to_bytes(4) for n in images.shape)
    (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + images.numpy().tobytes())
    header = b"\0\0\x08\x01" + len(labels).to_bytes(4)
    (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.to(torch.uint8).numpy().tobytes())


def compare(folder: Path, turns: int) -> dict[str, list[float]]:
    """Seconds of every training epoch, by name; the first turn, a warm-up, is left out."""
    images = torch.randint(0, 256, (60_000, 28, 28), dtype=torch.uint8)
    for part, count in (("train", 60_000), ("t10k", 10_000)):
        write_idx(folder, part, images[:count], torch.zeros(count))
    overrides = [
        "data=mnist",
        f"paths.data={folder}",
        f"paths.run={folder / 'run'}",
        f"data.batch_size={BATCH}",
        "likelihood=bernoulli",
        "network.hidden_sizes=[400]",
        "latent_size=20",
        f"trainer.max_epochs={turns + 1}",
        "trainer.accelerator=cpu",
        "name=bench",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", overrides)
    OmegaConf.resolve(config)
    data = instantiate(config.data)
    module, trainer = build_module(config, data), build_trainer(config)
    count = 60_000 - config.data.val_size
    take_turns = TakeTurns({"bare": bare_epoch(images[:count]), "textbook": textbook_epoch(folder, count)})
    trainer.callbacks.append(take_turns)
    hide_unused_gpus(trainer)
    trainer.fit(module, data)
    finish_loggers(trainer)
    return {name: seconds[1:] for name, seconds in take_turns.seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        seconds = compare(Path(folder), arguments.turns)
    images = (60_000 - 5_000) // BATCH * BATCH
    print(f"torch {torch.__version__}, {arguments.threads} threads, {platform.processor() or platform.machine()}")
    for name, times in seconds.items():
        ratios = [bare / own for bare, own in zip(seconds["bare"], times, strict=True)]
        spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
        print(f"{name:10} {images / median(times):8,.0f} images/s   {median(ratios):.2f} of bare ({spread})")


if __name__ == "__main__":
    main()
