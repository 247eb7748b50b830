"""Any folder tree, or zip, of JPEG, PNG and WebP images."""

import hashlib
import os
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor

from vae.checks import ConfigError, check_choice, check_int, check_number
from vae.data.decode import Transform
from vae.data.encoded_images import EncodedImages, Listed
from vae.data.image_files import FolderFiles, ZipFiles, open_zip

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
SPLITS = ("train", "val", "test")


class ImageFolder(EncodedImages):
    """`data=image_folder data.path=…`: the images of a folder tree or zip, of any size and aspect.

    If the topmost folders are called `train`, `val` and `test`, those are the splits; a split that has no
    folder is drawn from the training images: which split an image is in depends on its name and on
    `split_seed` alone, so that an image that is added moves no other. The folder below (below the split's) is an
    image's class. Files and folders whose names begin with a dot or with `__` are passed over.

    Args:
        path: the folder or zip.
        cache: `paths.cache`.
        size: the side of the images after resizing, or `[height, width]`.
        crop: the side of the centre square to keep before resizing, or null for the largest centre
            rectangle of the wanted aspect.
        channels: 3, or 1 for grey.
        val_fraction, test_fraction: of the images, where there is no folder for them: the chance of each image,
            so that of few images there may be some more or fewer, and at least one.
        **options: those of `EncodedImages`.
    """

    set_name = "image_folder"

    def __init__(
        self,
        path: str | None,
        cache: str,
        size: int | Sequence[int] = 64,
        crop: int | None = None,
        channels: int = 3,
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        **options: Any,
    ):
        super().__init__(cache, **options)
        self.path = path
        self.size = _height_and_width(size)
        self.crop = None if crop is None else check_int("data.crop", crop)
        self.channels = int(check_choice("data.channels", str(channels), ("1", "3")))
        self.fractions = {
            "test": check_number("data.test_fraction", test_fraction, above=0),
            "val": check_number("data.val_fraction", val_fraction, above=0),
        }
        if sum(self.fractions.values()) >= 1:
            raise ConfigError(
                f"data.val_fraction={val_fraction}: with data.test_fraction={test_fraction} nothing is left"
            )

    @property
    def transform(self) -> Transform:
        return Transform(self.channels, *self.size, self.crop)

    def find(self) -> Listed:
        if self.path is None:
            raise ConfigError("data.path=null: set it to a folder or a zip of images")
        path = Path(self.path)
        if path.is_dir():
            names = sorted(_walk(path))
            files: FolderFiles | ZipFiles = FolderFiles(path, names)
        elif path.is_file():
            names = sorted(name for name in open_zip(path).NameToInfo if _is_image(name))
            files = ZipFiles(path, names)
        else:
            raise ConfigError(f"data.path={path}: there is no such folder or zip")
        if not names:
            raise ConfigError(f"data.path={path}: holds no image ({', '.join(SUFFIXES)})")
        folders = [PurePosixPath(name).parts[:-1] for name in names]
        # The folders that all images are in are no splits and no classes.
        common = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False)))
        if any(folder[common:] and folder[common] in SPLITS for folder in folders):
            return Listed(
                files, self._by_folder(names, [f[common:] for f in folders]), _classes(folders, common + 1)
            )
        return Listed(files, self._draw(names, torch.arange(len(names)), {}), _classes(folders, common))

    def _by_folder(self, names: Sequence[str], folders: list[tuple[str, ...]]) -> dict[str, Int64[Tensor, " M"]]:
        """The splits that have a folder, by its name, and the others drawn from the training images."""
        first = [folder[0] if folder else "" for folder in folders]
        if others := sorted(set(first) - set(SPLITS)):
            raise ConfigError(
                f"data.path={self.path}: beside {', '.join(sorted(set(first) & set(SPLITS)))} there are images in"
                f" {others[0] or 'no folder'}, which belong to no split"
            )
        splits = {
            name: torch.tensor([row for row, folder in enumerate(first) if folder == name]) for name in set(first)
        }
        if "train" not in splits:
            raise ConfigError(
                f"data.path={self.path}: there are images in {', '.join(sorted(splits))} but none in train"
            )
        return self._draw(names, splits.pop("train"), splits)

    def _draw(
        self, names: Sequence[str], rows: Int64[Tensor, " N"], given: dict[str, Int64[Tensor, " M"]]
    ) -> dict[str, Int64[Tensor, " M"]]:
        """The given splits, and those that are not given, drawn from the rows; the rest is for training.

        Each image has a place in [0, 1), the hash of its name. Those below `test_fraction` are for the test, the
        next ones for validation. Where there are none, it is the image with the lowest place. Thus no image that
        was trained on is ever tested or validated on because others were added.
        """
        place = {row: _place(names[row], self.split_seed) for row in rows.tolist()}
        left = sorted(place, key=lambda row: (place[row], names[row]))
        splits, end = dict(given), 0.0
        for name, fraction in self.fractions.items():
            if name not in given:
                end += fraction
                count = max(bisect_left(left, end, key=place.__getitem__), 1)
                splits[name], left = torch.tensor(sorted(left[:count])), left[count:]
        if not left:
            raise ConfigError(f"data.path={self.path}: {len(rows)} images are too few to split")
        return splits | {"train": torch.tensor(sorted(left))}


def _place(name: str, seed: int) -> float:
    """A number in [0, 1) for a name, the same on every machine, however it writes folders and accents."""
    plain = unicodedata.normalize("NFC", name.replace(os.sep, "/"))
    digest = hashlib.blake2b(f"{seed}/{plain}".encode("utf-8", "surrogateescape"), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


def _height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(sides) != 2:
        raise ConfigError(f"data.size={size}: must be a whole number or two, [height, width]")
    return check_int("data.size", sides[0]), check_int("data.size", sides[1])


def _classes(folders: list[tuple[str, ...]], depth: int) -> Int64[Tensor, " N"]:
    """The number, in alphabetical order, of each image's folder at `depth`."""
    names = [folder[depth] if len(folder) > depth else "" for folder in folders]
    number = {name: n for n, name in enumerate(sorted(set(names)))}
    return torch.tensor([number[name] for name in names])


def _walk(root: Path) -> Iterator[str]:
    """The images below a folder, relative to it; links are followed, but none twice."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else folders
        if real not in seen:
            seen.add(real)
            yield from filter(_is_image, (os.path.relpath(os.path.join(folder, f), root) for f in files))


def _is_image(name: str) -> bool:
    hidden = any(part.startswith((".", "__")) for part in PurePosixPath(name).parts)
    return not hidden and name.lower().endswith(SUFFIXES)
