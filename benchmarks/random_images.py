"""Random images in memory, of any number and size, served like all sets of `vae.data` but without files."""

from collections.abc import Mapping
from typing import Any

import torch

from vae.data.image_data import ImageDataModule, ImageSet


class RandomImages(ImageDataModule):
    """Images whose bytes are drawn uniformly.

    Args:
        count: the number of training images.
        shape: (C, H, W).
        **options: the options of `ImageDataModule`.
    """

    def __init__(self, count: int, shape: tuple[int, int, int], **options: Any):
        super().__init__(**options)
        self.count, self.shape = count, shape

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.shape

    def sources(self) -> Mapping[str, ImageSet]:
        generator = torch.Generator().manual_seed(0)

        def drawn(count: int) -> ImageSet:
            images = torch.randint(0, 256, (count, *self.shape), dtype=torch.uint8, generator=generator)
            return ImageSet(images, torch.zeros(count, dtype=torch.int64))

        return {"train": drawn(self.count), "val": drawn(1), "test": drawn(1)}
