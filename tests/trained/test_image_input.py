"""Images as people have them become x, or are refused with a line that says why."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vae.checks import ConfigError
from vae.trained.image_input import as_tensor

GREY, COLOUR = (1, 6, 4), (3, 6, 4)


@pytest.mark.parametrize("shape", [(6, 4), (1, 6, 4), (6, 4, 1), (2, 6, 4), (2, 1, 6, 4), (2, 6, 4, 1)])
def test_every_layout_of_grey_images_is_taken(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    batch = as_tensor(values, GREY)
    assert batch.shape[1:] == GREY
    assert batch.dtype == torch.uint8
    np.testing.assert_array_equal(batch.numpy().ravel(), values.ravel())


@pytest.mark.parametrize("leading", [(), (2,)])
def test_both_layouts_of_colour_images_are_taken(leading: tuple[int, ...]) -> None:
    first = torch.rand(*leading, 3, 6, 4)
    last = first.movedim(-3, -1)
    torch.testing.assert_close(as_tensor(first, COLOUR), as_tensor(last, COLOUR))


def test_pil_images_are_taken_in_what_the_model_sees() -> None:
    picture = Image.fromarray(np.full((6, 4, 3), 200, np.uint8))
    assert as_tensor(picture, COLOUR).shape == (1, *COLOUR)
    assert as_tensor([picture, picture.convert("L")], GREY).shape == (2, *GREY)
    assert (as_tensor(picture.convert("RGBA"), COLOUR) == 200).all()


def test_pil_images_of_more_than_eight_bits_are_scaled() -> None:
    levels = np.arange(24, dtype=np.uint16).reshape(6, 4) * 2849
    for picture in (Image.fromarray(levels), Image.fromarray(levels.astype(np.int32))):
        np.testing.assert_array_equal(as_tensor(picture, GREY)[0, 0], (levels / 257).round())
    floats = Image.fromarray((levels / 65535).astype(np.float32))
    np.testing.assert_allclose(as_tensor(floats, GREY)[0, 0], levels / 257, atol=0.51)


def test_pil_images_show_the_background_through() -> None:
    icon = Image.new("RGBA", (4, 6), (0, 0, 0, 0))
    assert (as_tensor(icon, GREY) == 255).all()
    assert (as_tensor(icon, COLOUR, (1, 2, 3)) == torch.tensor([1, 2, 3])[:, None, None]).all()


@pytest.mark.parametrize("dtype", [">f4", ">f8", "<f4", ">u1"])
def test_arrays_in_either_order_of_bytes(dtype: str) -> None:
    values = np.arange(24).reshape(6, 4).astype(dtype)
    values = values if values.dtype.kind == "u" else values / np.array(24, dtype)
    np.testing.assert_allclose(as_tensor(values.astype(dtype), GREY)[0, 0], values)


def test_an_array_that_may_not_be_written_to() -> None:
    values = np.zeros((6, 4), np.uint8)
    values.setflags(write=False)
    assert as_tensor(values, GREY).shape == (1, *GREY)


def test_float64_arrays_become_float32() -> None:
    assert as_tensor(np.ones((6, 4)), GREY).dtype == torch.float32


@pytest.mark.parametrize(
    ("images", "line"),
    [
        (torch.rand(6, 5), "images of shape 6×5: this model takes images of 1×6×4"),
        (torch.rand(2, 3, 6, 4), "images of shape 2×3×6×4"),
        (torch.rand(6, 4) * 255, r"must be in \[0, 1\], or uint8"),
        (torch.rand(6, 4) - 0.5, r"must be in \[0, 1\]"),
        (torch.full((6, 4), float("nan")), "NaN"),
        (torch.zeros(6, 4, dtype=torch.int64), r"images of type torch\.int64"),
        (np.zeros((6, 4), ">u2"), r"images of type torch\.uint16: must be uint8"),
        (np.zeros((6, 4), np.complex64), r"images of type torch\.complex64: must be uint8"),
        (np.zeros((6, 4), np.longdouble), r"images of type (float128|longdouble|.*float64)"),
        (np.full((6, 4), "a"), r"images of type <U1: must be uint8"),
        (Image.fromarray(np.full((6, 4), 2.0, np.float32)), "images: grey values from 2 to 2"),
        ("picture.png", "str is no image"),
        ([], "empty list"),
        (torch.rand(4), "images of shape 4"),
        (Image.new("L", (7, 7)), "images of shape 7×7"),
    ],
)
def test_what_does_not_fit_is_refused(images: object, line: str) -> None:
    with pytest.raises(ConfigError, match=line):
        as_tensor(images, GREY)


def test_an_image_that_would_fill_the_memory_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (10_000, 8_000)).save(tmp_path / "large.png")
    with Image.open(tmp_path / "large.png") as image:
        with pytest.raises(ConfigError, match="10000×8000 pixels, more than 67,108,864"):
            as_tensor(image, GREY)
        assert image.getexif() is not None  # its file is still open: it was not loaded
