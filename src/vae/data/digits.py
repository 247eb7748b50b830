"""The 1,797 handwritten 8×8 digits that come with scikit-learn: no download."""

from collections.abc import Mapping

import torch

from vae.data.image_data import ImageDataModule, ImageSet
from vae.random import generator

TEST_SIZE = 360


class Digits(ImageDataModule):
    """`data=digits`: 8×8 grey digits in 17 levels, spread over the 256 levels of a byte (16 becomes 255).

    The release has no test split. A fifth of it is the test set of every run. It is drawn once, with a fixed seed
    that no option changes.

    Source: E. Alpaydin & C. Kaynak, Optical Recognition of Handwritten Digits, UCI repository, 1998.
    """

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (1, 8, 8)

    def sources(self) -> Mapping[str, ImageSet]:
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = (torch.from_numpy(digits.images) * (255 / 16)).round().to(torch.uint8).unsqueeze(1)
        labels = torch.from_numpy(digits.target).long()
        order = torch.randperm(len(images), generator=generator("digits test split"))
        test, train = order[:TEST_SIZE], order[TEST_SIZE:]
        return {"train": ImageSet(images[train], labels[train]), "test": ImageSet(images[test], labels[test])}
