"""Splits, bytes to x, binarisation."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch

from vae.checks import ConfigError
from vae.data import ImageDataModule, ImageSet
from vae.data.digits import Digits


class Ramp(ImageDataModule):
    """Image i has every pixel at byte i."""

    def __init__(self, count: int = 256, **options: Any):
        super().__init__(**options)
        self.count = count

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return (1, 2, 3)

    def sources(self) -> Mapping[str, ImageSet]:
        images = torch.arange(self.count).to(torch.uint8)[:, None, None, None].expand(-1, 1, 2, 3).contiguous()
        labels = torch.arange(self.count)
        return {"train": ImageSet(images, labels), "test": ImageSet(images[:10], labels[:10])}


def _ramp(**options: Any) -> Ramp:
    data = Ramp(**{"val_size": 56, **options})
    data.setup()
    return data


def test_validation_is_a_fixed_part_of_train_and_test_stays_apart() -> None:
    data, again = _ramp(), _ramp(seed=7)
    train, val = data.subsets["train"].members, data.subsets["val"].members
    assert len(train) == 200
    assert sorted(torch.cat((train, val)).tolist()) == list(range(256))
    # The split does not depend on the seed of the run.
    assert torch.equal(val, again.subsets["val"].members)
    assert not torch.equal(val, _ramp(split_seed=1).subsets["val"].members)
    assert data.subsets["test"].source is not data.subsets["train"].source


def test_a_batch_is_fetched_whole_and_keeps_images_with_their_labels() -> None:
    batch = next(iter(_ramp(batch_size=32).train_dataloader()))
    assert batch.image.shape == (32, 1, 2, 3)
    assert batch.image.dtype == torch.uint8
    assert torch.equal(batch.image[:, 0, 0, 0].long(), batch.label)


def test_bytes_become_floats_in_the_unit_interval() -> None:
    data = _ramp()
    x = data.to_x(torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(3, 1, 1, 1))
    torch.testing.assert_close(x.flatten(), torch.tensor([0, 0.2, 1]))
    assert data.values == "bytes"


def test_threshold_and_dynamic_binarisation() -> None:
    grey = torch.full((40_000, 1, 1, 1), 51, dtype=torch.uint8)
    assert _ramp(binarize="threshold").to_x(grey).sum() == 0
    dynamic = _ramp(binarize="dynamic")
    x = dynamic.to_x(grey)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    assert x.mean().item() == pytest.approx(0.2, abs=0.01)
    assert not torch.equal(x, dynamic.to_x(grey))
    assert dynamic.values == "binary"


def test_the_same_batch_is_drawn_the_same_again_and_others_differently() -> None:
    data = _ramp(binarize="dynamic", batch_size=64)
    batches = list(data.train_dataloader())
    once, again, other = (data.on_after_batch_transfer(b, 0).image for b in (batches[0], batches[0], batches[1]))
    assert torch.equal(once, again)
    assert not torch.equal(once, other)


def test_the_training_mean_is_that_of_the_training_images_alone() -> None:
    data = _ramp()
    expected = data.subsets["train"].members.double().mean() / 255
    torch.testing.assert_close(data.train_mean(), torch.full((1, 2, 3), expected.item()))


def test_pictures_show_the_same_images_each_time_and_disturb_no_draws() -> None:
    data = _ramp(binarize="dynamic")
    before = torch.get_rng_state()
    assert torch.equal(data.images("test", 5)[0], data.images("test", 5)[0])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"batch_size": 0}, r"data\.batch_size=0"),
        ({"binarize": "maybe"}, r"data\.binarize=maybe: must be one of none, threshold, dynamic"),
        ({"val_size": 256}, r"data\.val_size=256: must be below the 256 training images"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        _ramp(**options)


def test_digits_are_the_1797_of_scikit_learn() -> None:
    data = Digits(val_size=180)
    data.setup()
    assert {name: len(subset) for name, subset in data.subsets.items()} == {"train": 1257, "val": 180, "test": 360}
    source = data.subsets["train"].source
    assert source.images.shape[1:] == (1, 8, 8)
    assert source.images.max() == 255
    assert set(source.labels.tolist()) == set(range(10))
