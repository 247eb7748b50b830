"""MNIST and the sets that share its format, read and, where missing, downloaded by torchvision."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F

from vae.checks import ConfigError, check_choice
from vae.data.image_data import ImageDataModule, ImageSet


class MNIST(ImageDataModule):
    """`data=mnist` and `data=fashion_mnist`: 60,000 + 10,000 grey images of 28×28.

    Args:
        path: the folder in which torchvision keeps its sets; the files are in `<path>/<name>/raw/`.
        name: the torchvision class, `MNIST` or `FashionMNIST`.
        size: 28, or 32 to pad the images with two black pixels on each side.
        **options: those of `ImageDataModule`.

    Raises:
        ConfigError: files are missing and cannot be downloaded, or are not what they should be.

    Source: Y. LeCun et al., Gradient-based learning applied to document recognition, 1998; H. Xiao et al.,
    Fashion-MNIST, 2017.
    """

    def __init__(self, path: str, name: str = "MNIST", size: int = 28, **options: Any):
        super().__init__(**options)
        self.path, self.set_name = Path(path), check_choice("data.name", name, ("MNIST", "FashionMNIST"))
        self.size = int(check_choice("data.size", str(size), ("28", "32")))

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (1, self.size, self.size)

    def fetch(self) -> None:
        self._read(train=True, download=True)

    def sources(self) -> Mapping[str, ImageSet]:
        return {"train": self._read(train=True), "test": self._read(train=False)}

    def _read(self, train: bool, download: bool = False) -> ImageSet:
        from torchvision import datasets

        raw = self.path / self.set_name / "raw"
        try:
            stored = getattr(datasets, self.set_name)(str(self.path), train=train, download=download)
        except (OSError, RuntimeError, AssertionError, ValueError, LookupError, TypeError) as error:
            names = [Path(url).stem for url, _ in getattr(datasets, self.set_name).resources]
            if all((raw / name).is_file() for name in names):
                part = "train" if train else "t10k"
                raise ConfigError(
                    f"{raw}/{part}-*: a truncated or damaged file; delete it and let it be downloaded again"
                ) from error
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(
                f"paths.data={self.path}: {self.set_name} is not there and could not be downloaded"
                f" ({reason}); put {', '.join(names)} (unpacked, or as .gz) into {raw}/"
            ) from error
        self._check(stored.data.shape, len(stored.targets), raw, 60_000 if train else 10_000)
        images = stored.data.unsqueeze(1)
        margin = (self.size - 28) // 2
        return ImageSet(F.pad(images, (margin,) * 4) if margin else images, stored.targets.long())

    def _check(self, shape: tuple[int, ...], labels: int, raw: Path, expected: int) -> None:
        if tuple(shape) != (expected, 28, 28) or labels != expected:
            raise ConfigError(
                f"{raw}: expected {expected} images of 28×28 with a label each, found {tuple(shape)}"
                f" and {labels} labels"
            )
