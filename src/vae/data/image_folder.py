"""A data set made from any folder tree, or zip, of images."""

import hashlib
import os
import unicodedata
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from jaxtyping import Int64
from PIL import ImageColor
from torch import Tensor

from vae.checks import ConfigError, check_choice, check_int, check_number
from vae.data.decode import FORMATS, Transform
from vae.data.encoded_images import EncodedImages, Listed
from vae.data.image_files import FolderFiles, ZipFiles, open_zip

SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""The names of folders, in lower case, and the splits that they stand for."""


class ImageFolder(EncodedImages):
    """`data=image_folder data.path=…`: the images of a folder tree or zip, of any size and aspect.

    If the topmost folders are called `train`, `val` and `test` (or have other names from `SPLITS`, in upper or
    lower case), they are the splits. A split without a folder is drawn from the training images. The split of an
    image then depends on its name and on `split_seed` alone, so a new image never moves another one. The class of
    an image is the topmost folder that it is in, or the folder below that if the topmost one is a split. Files and
    folders whose names begin with a dot or with `__` are passed over.

    Args:
        path: the folder or zip.
        cache: `paths.cache`.
        size: the side of the images after resizing, or `[height, width]`.
        crop: the side of the centre square to keep before resizing, or null for the largest centre rectangle of
            the wanted aspect.
        channels: 3, or 1 for grey.
        background: the colour behind transparent parts, as HTML writes colours: `white`, `#202020`.
        val_fraction, test_fraction: the fraction of the images in a split that has no folder. It is the chance of
            each image, so a small set may get a few more or fewer; it gets at least one.
        **options: the options of `EncodedImages`.
    """

    set_name = "image_folder"

    def __init__(
        self,
        path: str | None,
        cache: str,
        size: int | Sequence[int] = 64,
        crop: int | None = None,
        channels: int = 3,
        background: str = "white",
        val_fraction: float = 0.1,
        test_fraction: float = 0.1,
        **options: Any,
    ):
        super().__init__(cache, **options)
        self.path = path
        self.size = _height_and_width(size)
        self.crop = None if crop is None else check_int("data.crop", crop)
        self.channels = int(check_choice("data.channels", str(channels), ("1", "3")))
        self.background = _colour(background)
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
        return Transform(self.channels, *self.size, self.crop, background=self.background)

    def find(self) -> Listed:
        if self.path is None:
            raise ConfigError("data.path=null: set it to a folder or a zip of images")
        path = Path(self.path)
        if path.is_dir():
            found = sorted(_walk(path))
        elif path.is_file():
            found = sorted(name for name in open_zip(path).NameToInfo if not name.endswith("/"))
        else:
            raise ConfigError(f"data.path={path}: there is no such folder or zip")
        found = [name for name in found if not _is_hidden(name)]
        names = [name for name in found if name.lower().endswith(SUFFIXES)]
        files = (FolderFiles if path.is_dir() else ZipFiles)(path, names)
        if not names:
            raise ConfigError(f"data.path={path}: holds no image ({', '.join(SUFFIXES)})")
        passed_over = _passed_over([name for name in found if not name.lower().endswith(SUFFIXES)])
        folders = [PurePosixPath(name).parts[:-1] for name in names]
        # A folder that contains all images is neither a split nor a class.
        common = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False)))
        if any(folder[common:] and folder[common].lower() in SPLITS for folder in folders):
            splits, how = self._by_folder(names, [folder[common:] for folder in folders])
            depth = common + 1
        else:
            splits, how = self._draw(names, torch.arange(len(names)), {}), "splits drawn by name"
            depth = common
        labels, classes = _classes(folders, depth)
        return Listed(files, splits, labels, "; ".join([how, classes, *passed_over]))

    def _by_folder(
        self, names: Sequence[str], folders: list[tuple[str, ...]]
    ) -> tuple[dict[str, Int64[Tensor, " M"]], str]:
        """Return the splits and a text on how they were found.

        A split without a folder is drawn from the training images.
        """
        first = [folder[0] if folder else "" for folder in folders]
        split_of = {name: SPLITS[name.lower()] for name in sorted(set(first)) if name.lower() in SPLITS}
        if others := sorted(set(first) - set(split_of)):
            raise ConfigError(
                f"data.path={self.path}: beside {', '.join(split_of)} there are images in"
                f" {others[0] or 'no folder'}, which belong to no split"
            )
        splits = {
            split: torch.tensor([row for row, name in enumerate(first) if split_of[name] == split])
            for split in sorted(set(split_of.values()))
        }
        if "train" not in splits:
            raise ConfigError(
                f"data.path={self.path}: there are images in {', '.join(split_of)} but none in train"
            )
        how = [f"{split} from {name}/" for name, split in split_of.items()]
        drawn = [f"{split} drawn from train by name" for split in self.fractions if split not in splits]
        return self._draw(names, splits.pop("train"), splits), ", ".join([*how, *drawn])

    def _draw(
        self, names: Sequence[str], rows: Int64[Tensor, " N"], given: dict[str, Int64[Tensor, " M"]]
    ) -> dict[str, Int64[Tensor, " M"]]:
        """Return the given splits, and draw the others from the rows. The remaining rows are for training.

        Each image has a place in [0, 1), the hash of its name. Images with a place below `test_fraction` are for
        the test, the next ones for validation. If there is no such image, the one with the lowest place is taken.
        So when images are added, an image that was used for training never moves to the test or validation set.
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
    """Return a number in [0, 1) for a name.

    It is the same on every machine, however the machine writes folders and accents.
    """
    plain = unicodedata.normalize("NFC", name.replace(os.sep, "/"))
    digest = hashlib.blake2b(f"{seed}/{plain}".encode("utf-8", "surrogateescape"), digest_size=6).digest()
    return int.from_bytes(digest) / 2**48


def _height_and_width(size: int | Sequence[int]) -> tuple[int, int]:
    sides = [size, size] if isinstance(size, int) else list(size)
    if len(sides) != 2:
        raise ConfigError(f"data.size={size}: must be a whole number or two, [height, width]")
    return check_int("data.size", sides[0]), check_int("data.size", sides[1])


def _colour(name: str) -> tuple[int, int, int]:
    try:
        red, green, blue, *_ = ImageColor.getrgb(name)
    except (ValueError, AttributeError) as error:
        raise ConfigError(
            f"data.background={name}: must be a colour as HTML writes it, white or '#202020'"
        ) from error
    return red, green, blue


def _classes(folders: list[tuple[str, ...]], depth: int) -> tuple[Int64[Tensor, " N"], str]:
    """Return the number of each image's folder at `depth`, in alphabetical order, and a text on these folders."""
    names = [folder[depth] if len(folder) > depth else "" for folder in folders]
    number = {name: n for n, name in enumerate(sorted(set(names)))}
    some = ", ".join(list(number)[:5]) + (", …" if len(number) > 5 else "")
    summary = "no classes" if len(number) == 1 else f"{len(number)} classes ({some.lstrip(', ')})"
    return torch.tensor([number[name] for name in names]), summary


def _passed_over(names: Sequence[str]) -> list[str]:
    """Return a text on how many files are no images, and of which kinds; an empty list if there are none."""
    kinds = Counter(PurePosixPath(name).suffix.lower() or "without a suffix" for name in names)
    some = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(4)) + (
        ", …" if len(kinds) > 4 else ""
    )
    return [f"passed over {len(names):,} other files ({some})"] if names else []


def _walk(root: Path) -> Iterator[str]:
    """Yield the files below a folder, relative to it. Links are followed, but no folder is visited twice."""
    seen = set()
    for folder, folders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        folders[:] = [] if real in seen else folders
        if real not in seen:
            seen.add(real)
            yield from (os.path.relpath(os.path.join(folder, file), root) for file in files)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "__")) for part in PurePosixPath(name).parts)
