"""CelebA from the files that people have: the official zip or folder, and lists that may be subsets."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from vae.checks import ConfigError, check_int
from vae.data.decode import Transform
from vae.data.download import download_or_say
from vae.data.encoded_images import EncodedImages, Listed
from vae.data.image_data import Attributes
from vae.data.image_files import FolderFiles, ImageFiles, ZipFiles, is_below

HEIGHT, WIDTH = 218, 178
IMAGES = "img_align_celeba"
PARTITION, ATTRIBUTES = "list_eval_partition.txt", "list_attr_celeba.txt"
SPLITS = ("train", "val", "test")


class CelebA(EncodedImages):
    """`data=celeba`: 202,599 photographs of faces, aligned, 178×218, with 40 binary attributes.

    From `<path>/celeba/`: `img_align_celeba.zip`, read in place, or the folder `img_align_celeba/`, with
    `list_eval_partition.txt` (the splits) and, for attributes, `list_attr_celeba.txt`. The lists may name
    fewer images than the release has; what they do not name is not used.

    Args:
        path: `paths.data`.
        cache: `paths.cache`.
        size: the images' side after resizing.
        crop: the side of the centre square of the photographs that is kept, at most 178.
        **options: those of `EncodedImages`.

    Source: Z. Liu et al., Deep learning face attributes in the wild, 2015.
    """

    def __init__(self, path: str, cache: str, size: int = 64, crop: int = 140, **options: Any):
        super().__init__(cache, **options)
        self.folder = Path(path) / "celeba"
        self.size = check_int("data.size", size)
        self.crop = check_int("data.crop", crop)
        if crop > WIDTH:
            raise ConfigError(f"data.crop={crop}: must be at most {WIDTH}, the width of CelebA's images")

    @property
    def transform(self) -> Transform:
        return Transform(3, self.size, self.size, self.crop, (HEIGHT, WIDTH))

    def fetch(self) -> None:
        """Download what is missing, then build the cache."""
        if not self._image_sources() or not (self.folder / PARTITION).is_file():
            self._download()
        super().fetch()

    def find(self) -> Listed:
        names, parts = self._partition()
        splits = {name: (parts == part).nonzero().flatten() for part, name in enumerate(SPLITS)}
        for name, positions in splits.items():
            if not len(positions):
                raise ConfigError(f"{self.folder / PARTITION}: lists no image for {name}")
        return Listed(self._files(names), splits, torch.zeros(len(names), dtype=torch.int64))

    def _partition(self) -> tuple[list[str], Tensor]:
        """The listed names, and 0 (train), 1 (val) or 2 (test) for each."""
        path = self.folder / PARTITION
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file; {self._advice()}")
        parts: dict[str, int] = {}
        for number, line in _lines(path):
            name, _, part = line.partition(" ")
            if part.strip() not in ("0", "1", "2"):
                raise ConfigError(f"{path}, line {number}: {line!r} is no name with 0, 1 or 2 after it")
            if "/" in name or not is_below(name):
                raise ConfigError(f"{path}, line {number}: {name!r} is not the plain name of a file")
            if name in parts:
                raise ConfigError(f"{path}, line {number}: {name} is listed twice")
            parts[name] = int(part)
        return list(parts), torch.tensor(list(parts.values()))

    def _image_sources(self) -> list[Path]:
        """The folders and zips that are there. Some unzip one folder too deep."""
        folders = [self.folder / IMAGES / IMAGES, self.folder / IMAGES]
        zips = [self.folder / f"{IMAGES}.zip"]
        return [f for f in folders if f.is_dir()][:1] + [z for z in zips if z.is_file()]

    def _files(self, names: list[str]) -> ImageFiles:
        """The folder or, if that lacks images and there is a zip, the zip."""
        sources = self._image_sources()
        if not sources:
            raise ConfigError(f"{self.folder}: has no images; {self._advice()}")
        found: list[ImageFiles] = [(FolderFiles if s.is_dir() else ZipFiles)(s, names) for s in sources]
        if len(found) == 1:
            return found[0]
        return min(found, key=lambda files: len(files.missing()))

    def _download(self) -> None:
        from torchvision import datasets

        with download_or_say(f"paths.data={self.folder.parent}", self._advice()):
            datasets.CelebA(str(self.folder.parent), split="all", download=True)

    def _advice(self) -> str:
        return (
            f"get {IMAGES}.zip (leave it zipped, or unpack it to {IMAGES}/), {PARTITION} and, for attributes,"
            f" {ATTRIBUTES} from mmlab.ie.cuhk.edu.hk/projects/CelebA.html or any copy of it, and put them into"
            f" {self.folder}/"
        )

    def attributes(self, split: str) -> Attributes:
        """The 40 attributes of each image of a split.

        Raises:
            ConfigError: their list is missing, damaged, or lacks some of the images.
        """
        names, values = self._read_attributes()
        return Attributes(names, values[self.subsets[split].members])

    def _read_attributes(self) -> tuple[list[str], Bool[Tensor, "N A"]]:
        """The attributes' names, and their values for each image that is in the cache."""
        path = self.folder / ATTRIBUTES
        lines = dict(_lines(path))
        names = lines.get(2, "").split()
        stated = {}
        for number, line in lines.items():
            if number > 2:
                name, *values = line.split()
                if len(values) != len(names) or not set(values) <= {"1", "-1"}:
                    raise ConfigError(f"{path}, line {number}: expected a name and {len(names)} values of 1 or -1")
                stated[name] = [value == "1" for value in values]
        wanted = [self.listed.files.names[row] for row in self.rows.tolist()]
        if missing := [name for name in wanted if name not in stated]:
            raise ConfigError(f"{path}: lacks {len(missing):,} of the images, such as {', '.join(missing[:3])}")
        return names, torch.tensor([stated[name] for name in wanted])


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers from 1."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    return ((number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip())
