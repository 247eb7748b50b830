"""The base class of image sets whose images are files (JPEG and others). They are decoded once, into the cache."""

import hashlib
import sys
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from vae.checks import ConfigError, check_choice
from vae.data.cache import ImageCache
from vae.data.decode import Transform
from vae.data.image_data import ImageDataModule, ImageSet
from vae.data.image_files import ImageFiles


class Listed(NamedTuple):
    """The images of a set.

    Attributes:
        files: where the images are.
        splits: the positions of the images of each split.
        labels: a class for each image.
        how: how the splits and labels were found, for the line that the user reads.
    """

    files: ImageFiles
    splits: Mapping[str, Int64[Tensor, " M"]]
    labels: Int64[Tensor, " N"]
    how: str = ""


class EncodedImages(ImageDataModule):
    """A set of encoded images. A subclass says which images are listed and what is done to each.

    Args:
        cache: `paths.cache`, the folder of decoded images.
        on_bad: `error` or `skip`, for images that are missing or cannot be used.
        **options: the options of `ImageDataModule`.
    """

    def __init__(self, cache: str, on_bad: str = "error", **options: Any):
        super().__init__(**options)
        self.cache = Path(cache)
        self.on_bad = check_choice("data.on_bad", on_bad, ("error", "skip"))
        self._verified = False

    @property
    @abstractmethod
    def transform(self) -> Transform:
        """What is done to each image."""

    @abstractmethod
    def find(self) -> Listed:
        """Look for the images, but do not read them."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (self.transform.channels, self.transform.height, self.transform.width)

    @property
    def listed(self) -> Listed:
        """The result of `find`, which is called once."""
        if "listed" not in self.memory:
            self.memory["listed"] = self.find()
        return self.memory["listed"]

    @property
    def rows(self) -> Int64[Tensor, " R"]:
        """The position in `listed` of each image that `sources` read."""
        return self.memory["rows"]

    def fetch(self) -> None:
        """Build or verify the cache."""
        self._image_cache().open()
        self._verified = True

    def setup(self, stage: str | None = None) -> None:
        """Read and split the images, and print how this was done."""
        if self.subsets:
            return
        super().setup(stage)
        if self.trainer is not None and not self.trainer.is_global_zero:
            return
        _say(self.summary())
        if all_equal(self.subsets["train"].source.images):
            _say(f"{self.listed.files.path}: all images are the same, pixel for pixel")

    @property
    def place(self) -> str:  # type: ignore[override]
        """Where the files are."""
        return str(self.listed.files.path)

    def summary(self) -> str:
        """Return one line: the number of images in each split, and how they were found."""
        sizes = ", ".join(f"{name} {len(subset):,}" for name, subset in self.subsets.items())
        return "; ".join(part for part in (f"{self.listed.files.path}: {sizes}", self.listed.how) if part)

    def digests(self) -> dict[str, str]:
        """Return, for each split, the number of listed images and a digest of their names and sizes in bytes."""
        names, sizes = self.listed.files.names, self.listed.files.sizes()
        found = {}
        for split, positions in self.listed.splits.items():
            lines = sorted(f"{names[row]}\t{sizes[row]}" for row in positions.tolist())
            content = "\n".join(lines).encode("utf-8", "surrogateescape")
            found[split] = f"{len(lines):,} images ({hashlib.blake2b(content, digest_size=6).hexdigest()})"
        return found

    def sources(self) -> Mapping[str, ImageSet]:
        # The first rank of each machine has just verified the file. The other ranks rely on it.
        further_rank = self.trainer is not None and self.trainer.local_rank > 0
        cached = self._image_cache().open(verify=not self._verified and not further_rank)
        self.memory["rows"] = cached.rows
        labels = self.listed.labels[cached.rows]
        row_of = torch.full((len(self.listed.files),), -1).scatter_(0, cached.rows, torch.arange(len(cached.rows)))
        sources = {}
        for name, positions in self.listed.splits.items():
            members = row_of[positions]
            members = members[members >= 0]
            if not len(members):
                raise ConfigError(f"{self.listed.files.path}: has no usable image for {name}")
            sources[name] = ImageSet(cached.images, labels, members)
        return sources

    def _image_cache(self) -> ImageCache:
        name = type(self).__name__.lower()
        return ImageCache(self.cache, name, self.listed.files, self.transform, self.on_bad)


def all_equal(images: UInt8[Tensor, "N C H W"]) -> bool:
    """Return whether there are several images and all of them have the same pixels.

    The comparison ends at the first image that differs.
    """
    return len(images) > 1 and all(bool((chunk == images[0]).all()) for chunk in images.split(256))


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
