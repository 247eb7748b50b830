"""Omniglot: handwritten characters of 50 alphabets. torchvision downloads them if they are missing."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from vae.checks import ConfigError, check_int
from vae.data.decode import Transform
from vae.data.download import download_or_say
from vae.data.encoded_images import EncodedImages, Listed
from vae.data.image_data import ImageSet
from vae.data.image_files import FolderFiles

FOLDERS = {"train": "images_background", "test": "images_evaluation"}


class Omniglot(EncodedImages):
    """`data=omniglot`: 19,280 + 13,180 drawings, 105×105 in black on white, made 28×28 in white on black.

    The split is the authors' own: the characters of the test set are from alphabets that the training set does not
    have. The label is the number of the character among all characters of the set.

    Args:
        path: `paths.data`; the files are in `<path>/omniglot-py/`.
        cache: `paths.cache`.
        size: the images' side after resizing.
        **options: the options of `EncodedImages`.

    Source: B. Lake et al., Human-level concept learning through probabilistic program induction, 2015.
    """

    def __init__(self, path: str, cache: str, size: int = 28, **options: Any):
        super().__init__(cache, **options)
        self.folder, self.size = Path(path) / "omniglot-py", check_int("data.size", size)

    @property
    def transform(self) -> Transform:
        return Transform(1, self.size, self.size)

    def fetch(self) -> None:
        """Download what is missing, then build the cache."""
        from torchvision import datasets

        if missing := [folder for folder in FOLDERS.values() if not (self.folder / folder).is_dir()]:
            with download_or_say(f"paths.data={self.folder.parent}", self._advice()):
                for folder in missing:
                    background = folder == FOLDERS["train"]
                    datasets.Omniglot(str(self.folder.parent), background=background, download=True)
        super().fetch()

    def _advice(self) -> str:
        zips = " and ".join(f"{folder}.zip" for folder in FOLDERS.values())
        return f"unpack {zips} (github.com/brendenlake/omniglot, folder python) into {self.folder}/"

    def find(self) -> Listed:
        names = {
            split: sorted(str(file.relative_to(self.folder)) for file in self.folder.glob(f"{folder}/*/*/*.png"))
            for split, folder in FOLDERS.items()
        }
        for split, folder in FOLDERS.items():
            if not names[split]:
                raise ConfigError(f"{self.folder / folder}: holds no image; {self._advice()}")
        rows = torch.arange(len(names["train"]) + len(names["test"]))
        splits = {"train": rows[: len(names["train"])], "test": rows[len(names["train"]) :]}
        listed = names["train"] + names["test"]
        characters = [PurePosixPath(name).parent for name in listed]
        number = {character: n for n, character in enumerate(dict.fromkeys(characters))}
        labels = torch.tensor([number[character] for character in characters])
        return Listed(FolderFiles(self.folder, listed), splits, labels)

    def sources(self) -> Mapping[str, ImageSet]:
        """Return the images with ink as 255, as in MNIST. They are few, so they are kept in memory."""
        sources = super().sources()
        inverted = 255 - next(iter(sources.values())).images
        return {name: source._replace(images=inverted) for name, source in sources.items()}
