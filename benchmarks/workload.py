"""The trainings of a benchmark: the overrides of the command line, and images of the right size."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from vae.paths import CONF

MNIST = (60_000, 28, 28)


@dataclass(frozen=True)
class Workload:
    """A training to be timed.

    Attributes:
        overrides: the overrides of train.py.
        contenders: the other programs that train the same model.
        images: the number of training images.
        faces: whether the images are 3×64×64, in files. If not, they are MNIST's, in its own format.
        ranks: the number of processes of the framework.
    """

    overrides: tuple[str, ...]
    contenders: tuple[str, ...] = ("bare",)
    images: int = 55_000
    faces: bool = False
    ranks: int = 1


MLP = ("likelihood=bernoulli", "network.hidden_sizes=[400]", "latent_size=20")
BURDA = (
    "likelihood=bernoulli",
    "data.binarize=dynamic",
    "network.hidden_sizes=[200,200]",
    "network.activation=tanh",
    "latent_size=50",
    "data.batch_size=100",
)
CONV = ("network=conv", "latent_size=64", "data.batch_size=64", "likelihood.sigma=0.1")
WORKLOADS = {
    "mlp_128": Workload((*MLP, "data.batch_size=128"), ("bare", "textbook", "pythae", "compiled")),
    "mlp_512": Workload((*MLP, "data.batch_size=512")),
    "burda_vae_1": Workload(BURDA),
    "burda_iwae_5": Workload((*BURDA, "objective=iwae", "objective.k=5"), images=20_000),
    "burda_iwae_50": Workload((*BURDA, "objective=iwae", "objective.k=50"), images=8_000),
    "conv_64": Workload(CONV, images=1_000, faces=True),
    "conv_64_ddp": Workload(CONV, ("bare_ddp", "one_process"), images=1_000, faces=True, ranks=2),
}


def write_images(workload: Workload, folder: Path) -> None:
    """Write random images in the files that the workload reads."""
    generator = torch.Generator().manual_seed(0)
    if workload.faces:
        _write_faces(folder / "faces", workload.images, generator)
        return
    images = torch.randint(0, 256, MNIST, dtype=torch.uint8, generator=generator)
    for part, count in (("train", MNIST[0]), ("t10k", 10_000)):
        write_idx(folder, part, images[:count], torch.zeros(count))


def composed(workload: Workload, folder: Path, *overrides: str) -> DictConfig:
    """Return the resolved config of a run in `folder` with the images there."""
    left_out = MNIST[0] - workload.images
    source = (
        [f"data.path={folder}/faces"] if workload.faces else [f"paths.data={folder}", f"data.val_size={left_out}"]
    )
    fixed = [
        f"data={'image_folder' if workload.faces else 'mnist'}",
        *source,
        f"paths.cache={folder}/cache",
        f"paths.run={tempfile.mkdtemp(dir=folder)}",
        "trainer.accelerator=cpu",
        "+trainer.limit_val_batches=1",
        "name=bench",
    ]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*fixed, *workload.overrides, *overrides])
    OmegaConf.resolve(config)
    return config


def composed_step(*overrides: str) -> DictConfig:
    """Return the resolved config of a model and its training step, for any images."""
    fixed = ("trainer.accelerator=cpu", "logger=none", "callback=none", "name=bench")
    path = [] if any(override.startswith("paths.run=") for override in overrides) else ["paths.run=."]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", [*fixed, *path, *overrides])
    OmegaConf.resolve(config)
    return config


def write_idx(folder: Path, part: str, images: Tensor, labels: Tensor) -> None:
    """Write images and labels in MNIST's file format."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True, exist_ok=True)
    sizes = b"".join(n.to_bytes(4) for n in images.shape)
    (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + images.numpy().tobytes())
    header = b"\0\0\x08\x01" + len(labels).to_bytes(4)
    (raw / f"{part}-labels-idx1-ubyte").write_bytes(header + labels.to(torch.uint8).numpy().tobytes())


def _write_faces(folder: Path, count: int, generator: torch.Generator) -> None:
    from torchvision.io import encode_png

    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8, generator=generator)
        (folder / f"{i:05}.png").write_bytes(encode_png(image).numpy().tobytes())
