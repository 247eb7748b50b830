"""MNIST and the sets that share its format. torchvision downloads them if they are missing."""

import gzip
import zlib
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

from vae.checks import ConfigError, check_choice
from vae.data.image_data import ImageDataModule, ImageSet

COUNTS = {"train": 60_000, "t10k": 10_000}


class MNIST(ImageDataModule):
    """`data=mnist` and `data=fashion_mnist`: 60,000 + 10,000 grey images of 28×28.

    Args:
        path: the folder in which torchvision keeps its sets; the files are in `<path>/<name>/raw/`.
        name: the torchvision class, `MNIST` or `FashionMNIST`.
        size: 28, or 32 to pad the images with two black pixels on each side.
        **options: the options of `ImageDataModule`.

    Raises:
        ConfigError: files are missing and cannot be downloaded, or have unexpected contents.

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

    @property
    def _raw(self) -> Path:
        return self.path / self.set_name / "raw"

    def fetch(self) -> None:
        """Download the files if any of them is missing."""
        from torchvision import datasets

        names = [name for part in COUNTS for name in _names(part)]
        if all(self._file(name) for name in names):
            return
        try:
            getattr(datasets, self.set_name)(str(self.path), download=True)
        except (OSError, RuntimeError, AssertionError, ValueError, LookupError, TypeError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ConfigError(f"{self._missing(names)}, and could not be downloaded ({reason})") from error

    def _missing(self, names: Sequence[str]) -> str:
        missing = [name for name in names if not self._file(name)]
        return (
            f"paths.data={self.path}: {self.set_name} is not there; put {', '.join(missing)} (unpacked, or as .gz)"
            f" into {self._raw}/"
        )

    def sources(self) -> Mapping[str, ImageSet]:
        return {"train": self._read("train"), "test": self._read("t10k")}

    def _read(self, part: str) -> ImageSet:
        count, (images_name, labels_name) = COUNTS[part], _names(part)
        images = self._array(images_name, (count, 28, 28)).unsqueeze(1)
        labels = self._array(labels_name, (count,)).long()
        margin = (self.size - 28) // 2
        return ImageSet(F.pad(images, (margin,) * 4) if margin else images, labels)

    def _file(self, name: str) -> Path | None:
        """Return the file with this name, packed or not.

        Some copies have `.idx` in place of `-idx` in the name. They are found too.
        """
        names = [name, name.replace("-idx", ".idx")]
        paths = [self._raw / f"{spelled}{suffix}" for suffix in ("", ".gz") for spelled in names]
        return next((path for path in paths if path.is_file()), None)

    def _array(self, name: str, shape: tuple[int, ...]) -> UInt8[Tensor, "..."]:
        """Read the numbers of an idx file: two zeros, 8 for bytes, the number of axes, their sizes, the bytes.

        Raises:
            ConfigError: the file is missing, damaged, or has another shape.
        """
        path = self._file(name)
        if path is None:
            raise ConfigError(self._missing([name]))
        try:
            content = path.read_bytes()
            # No checksum of the file is checked: packing the same contents again gives a different file.
            content = gzip.decompress(content) if path.suffix == ".gz" else content
        except (OSError, EOFError, zlib.error) as error:
            raise ConfigError(f"{path}: a truncated or damaged file ({error})") from error
        header = b"".join(size.to_bytes(4) for size in (0x800 + len(shape), *shape))
        expected = f"{'×'.join(map(str, shape))} bytes behind a header of {len(header)}"
        if content[: len(header)] != header:
            raise ConfigError(
                f"{path}: expected an idx file of {expected}, found one of {len(content):,} bytes that begins"
                f" with {content[:4].hex(' ') or 'nothing'}; delete it and let it be downloaded again"
            )
        if len(content) != len(header) + prod(shape):
            raise ConfigError(
                f"{path}: a truncated or damaged file: expected {expected}, found {len(content):,} bytes; delete"
                " it and let it be downloaded again"
            )
        return torch.frombuffer(bytearray(content), dtype=torch.uint8)[len(header) :].view(shape)


def _names(part: str) -> tuple[str, str]:
    return f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
