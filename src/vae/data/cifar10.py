"""CIFAR-10, read by torchvision and downloaded if it is missing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vae.data.download import download_or_say
from vae.data.image_data import ImageDataModule, ImageSet


class CIFAR10(ImageDataModule):
    """`data=cifar10`: 50,000 + 10,000 photographs of 10 kinds of things, 32×32 in colour.

    Args:
        path: `paths.data`; the files are in `<path>/cifar-10-batches-py/`.
        **options: the options of `ImageDataModule`.

    Raises:
        ConfigError: files are missing or damaged, and cannot be downloaded.

    Source: A. Krizhevsky, Learning multiple layers of features from tiny images, 2009.
    """

    def __init__(self, path: str, **options: Any):
        super().__init__(**options)
        self.path = Path(path)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (3, 32, 32)

    def fetch(self) -> None:
        self._read(train=True, download=True)

    def sources(self) -> Mapping[str, ImageSet]:
        return {"train": self._read(train=True), "test": self._read(train=False)}

    def _read(self, train: bool, download: bool = False) -> ImageSet:
        from torchvision import datasets

        advice = f"unpack cifar-10-python.tar.gz (www.cs.toronto.edu/~kriz/cifar.html) into {self.path}/"
        with download_or_say(f"paths.data={self.path}", advice):
            stored = datasets.CIFAR10(str(self.path), train=train, download=download)
        images = torch.from_numpy(stored.data).permute(0, 3, 1, 2).contiguous()
        return ImageSet(images, torch.tensor(stored.targets))
