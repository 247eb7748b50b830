"""CelebA, read from the official zip or folder. The lists may name a subset of the images."""

import re
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
PARTITION, ATTRIBUTES = "list_eval_partition", "list_attr_celeba"
LISTS = (".txt", ".csv")
SPLITS = ("train", "val", "test")


class CelebA(EncodedImages):
    """`data=celeba`: 202,599 photographs of faces, aligned, 178×218, with 40 binary attributes.

    The files in `<path>/celeba/` are `img_align_celeba.zip`, which is read without unpacking, or the folder
    `img_align_celeba/`; `list_eval_partition.txt` (the splits); and, for attributes, `list_attr_celeba.txt`. The
    lists may name fewer images than the release has; images that they do not name are not used. The lists may also
    end in `.csv` and have commas, tabs and a header. The images may be `.png` files with the names from the lists.

    Args:
        path: `paths.data`.
        cache: `paths.cache`.
        size: the images' side after resizing.
        crop: the side of the centre square of the photographs that is kept, at most 178.
        **options: the options of `EncodedImages`.

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
        if not self._image_sources() or not self._list(PARTITION).is_file():
            self._download()
        super().fetch()

    def find(self) -> Listed:
        names, parts = self._partition()
        splits = {name: (parts == part).nonzero().flatten() for part, name in enumerate(SPLITS)}
        for name, positions in splits.items():
            if not len(positions):
                raise ConfigError(f"{self._list(PARTITION)}: lists no image for {name}")
        labels = torch.zeros(len(names), dtype=torch.int64)
        return Listed(self._files(names), splits, labels, f"splits by {self._list(PARTITION).name}")

    def _list(self, name: str) -> Path:
        """Return the file of a list, in whichever of its forms exists, or the official form if none exists."""
        forms = [self.folder / f"{name}{suffix}" for suffix in LISTS]
        return next((path for path in forms if path.is_file()), forms[0])

    def _partition(self) -> tuple[list[str], Tensor]:
        """Return the listed names, and for each of them 0 (train), 1 (val) or 2 (test)."""
        path = self._list(PARTITION)
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such file; {self._advice()}")
        parts: dict[str, int] = {}
        for number, fields in _lines(path):
            if not parts and len(fields) == 2 and fields[1].isalpha():
                continue  # a header: image_id, partition
            line = " ".join(fields)
            name, part = fields[0], " ".join(fields[1:])
            if part not in ("0", "1", "2"):
                raise ConfigError(f"{path}, line {number}: {line!r} is no name with 0, 1 or 2 after it")
            if "/" in name or not is_below(name):
                raise ConfigError(f"{path}, line {number}: {name!r} is not the plain name of a file")
            if name in parts:
                raise ConfigError(f"{path}, line {number}: {name} is listed twice")
            parts[name] = int(part)
        return list(parts), torch.tensor(list(parts.values()))

    def _image_sources(self) -> list[Path]:
        """Return the existing folders and zips of JPEGs or PNGs.

        Images that were unzipped one folder too deep are found too.
        """
        folders = [self.folder / name / more for name in (IMAGES, f"{IMAGES}_png") for more in (name, "")]
        zips = [self.folder / f"{name}.zip" for name in (IMAGES, f"{IMAGES}_png")]
        return [f for f in folders if f.is_dir()][:1] + [z for z in zips if z.is_file()]

    def _files(self, names: list[str]) -> ImageFiles:
        """Return the files of the folder or, if the folder lacks images and there is a zip, those of the zip."""
        sources = self._image_sources()
        if not sources:
            raise ConfigError(f"{self.folder}: has no images; {self._advice()}")
        if len(sources) == 1 and sources[0].suffix == ".zip" and not ZipFiles(sources[0], names[:1]).missing():
            return ZipFiles(sources[0], names)
        other = [str(Path(name).with_suffix(".jpg" if name.endswith(".png") else ".png")) for name in names]
        found: list[ImageFiles] = [
            (FolderFiles if source.is_dir() else ZipFiles)(source, spelled)
            for source in sources
            for spelled in (names, other)
        ]
        whole = (files for files in found if not files.missing())
        return next(whole, None) or min(found, key=lambda files: len(files.missing()))

    def _download(self) -> None:
        from torchvision import datasets

        with download_or_say(f"paths.data={self.folder.parent}", self._advice()):
            datasets.CelebA(str(self.folder.parent), split="all", download=True)

    def _advice(self) -> str:
        return (
            f"get {IMAGES}.zip (leave it zipped, or unpack it to {IMAGES}/), {PARTITION}.txt and, for attributes,"
            f" {ATTRIBUTES}.txt (or both as .csv) from mmlab.ie.cuhk.edu.hk/projects/CelebA.html or any copy"
            f" of it, and put them into {self.folder}/"
        )

    def attributes(self, split: str) -> Attributes:
        """Return the 40 attributes of each image of a split.

        Raises:
            ConfigError: the list of attributes is missing or damaged, or it lacks some of the images.
        """
        names, values = self._read_attributes()
        return Attributes(names, values[self.subsets[split].members])

    def _read_attributes(self) -> tuple[list[str], Bool[Tensor, "N A"]]:
        """Return the names of the attributes, and their values for each image in the cache."""
        path = self._list(ATTRIBUTES)
        lines = list(_lines(path))
        if lines and len(lines[0][1]) == 1:
            del lines[0]  # the number of images
        names = lines[0][1] if lines else []
        if len(names) < 1 or set(names[1:]) & {"1", "-1"}:
            found = "nothing" if not lines else f"{' '.join(names)[:60]!r}"
            raise ConfigError(
                f"{path}: expected the names of the attributes in the first or second line, found {found}"
            )
        if len(lines) > 1 and len(lines[1][1]) == len(names):
            names = names[1:]  # a .csv also has a name for the column of file names
        stated = {}
        for number, (name, *values) in lines[1:]:
            if len(values) != len(names) or not set(values) <= {"1", "-1"}:
                raise ConfigError(f"{path}, line {number}: expected a name and {len(names)} values of 1 or -1")
            stated[Path(name).stem] = [value == "1" for value in values]
        wanted = [self.listed.files.names[row] for row in self.rows.tolist()]
        if missing := [name for name in wanted if Path(name).stem not in stated]:
            raise ConfigError(f"{path}: lacks {len(missing):,} of the images, such as {', '.join(missing[:3])}")
        return names, torch.tensor([stated[Path(name).stem] for name in wanted])


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Return the lines that are not empty, each as its number (from 1) and its fields.

    Commas, tabs and spaces separate fields.
    """
    try:
        # A file that was saved on Windows may begin with a byte order mark.
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error})") from error
    lines = enumerate((re.split(r"[\s,;]+", line.strip(" \t\r,;")) for line in text.splitlines()), 1)
    return ((number, [field.strip('"') for field in fields]) for number, fields in lines if fields != [""])
