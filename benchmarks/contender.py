"""One way of training, in a process of its own: python -m benchmarks.contender WORKLOAD NAME FOLDER THREADS.

Says `ready`, and then for each line that it is sent trains an epoch and says its seconds and steps, so that
several of these can take turns without sharing a process's memory or settings.

* framework: `train.py`'s own objects, with all its logging and callbacks on; compiled: the same with compile=true;
  one_process: the same with trainer.devices=1, where the framework has more;
* bare: a loop over a float tensor in memory with the same fused Adam, the limit for any framework. Of the MLP it
  is the model as one would write it by hand, of the others the framework's own model and objective;
* bare_ddp: that loop in two processes, its model inside torch's DistributedDataParallel;
* textbook: a DataLoader over torchvision's MNIST with ToTensor for each image;
* pythae: that library's trainer with the same MLP.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from benchmarks.bare import Epoch, PlainVAE, bare, bare_ddp, trained, training_images
from benchmarks.workload import WORKLOADS, Workload, composed
from vae.command.command import quiet_libraries
from vae.command.distributed import CHILD, end_with_whoever_started_this, is_child
from vae.training.build import build_module, build_trainer, hide_unused_gpus


def textbook(workload: Workload, folder: Path) -> Epoch:
    """The loop over torchvision's MNIST, each image through PIL and ToTensor."""
    from torch.utils.data import DataLoader, Subset
    from torchvision import datasets, transforms

    stored = datasets.MNIST(str(folder), train=True, transform=transforms.ToTensor())
    size, count = composed(workload, folder).data.batch_size, len(training_images(workload, folder))
    loader = DataLoader(Subset(stored, range(count)), size, shuffle=True, drop_last=True)
    model = PlainVAE()
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    return lambda: trained(model.loss, optimizer, (x.flatten(1) for x, _ in loader))


def pythae(workload: Workload, folder: Path) -> Epoch:
    """pythae's trainer, its encoder and decoder narrowed from 512 to 400."""
    from pythae.data.datasets import DatasetOutput
    from pythae.models import VAE, VAEConfig
    from pythae.models.nn.default_architectures import Decoder_AE_MLP, Encoder_VAE_MLP
    from pythae.trainers import BaseTrainer, BaseTrainerConfig
    from torch.utils.data import Dataset

    class Images(Dataset[DatasetOutput]):
        def __init__(self, images: Tensor):
            self.images = images

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, index: int) -> DatasetOutput:
            return DatasetOutput(data=self.images[index])

    images = training_images(workload, folder)
    size = composed(workload, folder).data.batch_size
    config = VAEConfig(input_dim=(1, 28, 28), latent_dim=20, reconstruction_loss="bce")
    encoder, decoder = Encoder_VAE_MLP(config), Decoder_AE_MLP(config)
    encoder.layers[0][0], encoder.embedding, encoder.log_var = (
        nn.Linear(784, 400),
        nn.Linear(400, 20),
        nn.Linear(400, 20),
    )
    decoder.layers[0][0], decoder.layers[1][0] = nn.Linear(20, 400), nn.Linear(400, 784)
    options = BaseTrainerConfig(
        output_dir=str(folder / "pythae"), per_device_train_batch_size=size, learning_rate=1e-3, no_cuda=True
    )
    trainer = BaseTrainer(VAE(config, encoder, decoder), Images(images), training_config=options)
    trainer.prepare_training()
    epochs = iter(range(1, 10**6))

    def epoch() -> int:
        trainer.train_step(next(epochs))
        return len(trainer.train_loader)

    return epoch


OTHERS: dict[str, Callable[[Workload, Path], Epoch]] = {
    "bare": bare,
    "bare_ddp": bare_ddp,
    "textbook": textbook,
    "pythae": pythae,
}
FRAMEWORK: dict[str, tuple[str, ...]] = {
    "framework": (),
    "compiled": ("compile=true",),
    "one_process": ("trainer.devices=1",),
}


class OnRequest(Callback):
    """Trains an epoch for each line that the process is sent, and says the seconds of its training part."""

    def __init__(self) -> None:
        self.started, self.steps = 0.0, 0
        self.found: tuple[float, int] | None = None

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # Only now has the epoch before been validated and saved, so that the others have the machine alone.
        if self.found is not None:
            answer(*self.found)
        sys.stdin.readline()
        self.started, self.steps = time.perf_counter(), trainer.global_step

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.found = time.perf_counter() - self.started, trainer.global_step - self.steps


def answer(*words: object) -> None:
    """Say something to the process that asks; the libraries' own words go elsewhere."""
    print(*words, file=OUT, flush=True)


def run_framework(workload: Workload, folder: Path, *overrides: str) -> None:
    config = composed(workload, folder, "trainer.max_epochs=1000", f"trainer.devices={workload.ranks}", *overrides)
    data = instantiate(config.data)
    trainer = build_trainer(config)
    module = build_module(config, data, trainer)
    hide_unused_gpus(trainer)
    if not is_child():
        trainer.callbacks.append(OnRequest())  # type: ignore[attr-defined]
        # Lightning starts further ranks with this process's command line and environment.
        os.environ[CHILD] = str(os.getpid())
        answer("ready")
    trainer.fit(module, data)


def main(name: str, contender: str, folder: str, threads: str) -> None:
    torch.set_num_threads(int(threads))
    quiet_libraries()
    end_with_whoever_started_this()
    workload, place = WORKLOADS[name], Path(folder)
    if contender in FRAMEWORK:
        return run_framework(workload, place, *FRAMEWORK[contender])
    epoch = OTHERS[contender](workload, place)
    answer("ready")
    while sys.stdin.readline():
        started = time.perf_counter()
        steps = epoch()
        answer(time.perf_counter() - started, steps)
    return None


if __name__ == "__main__":
    OUT, sys.stdout = sys.stdout, sys.stderr
    main(*sys.argv[1:])
