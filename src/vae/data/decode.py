"""The decoder: from one encoded image to uint8 pixels of the size that the model is trained on."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Condition
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

FORMATS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".mpo",),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "AVIF": (".avif",),
    "JPEG2000": (".jp2", ".j2k", ".jpx"),
    "BMP": (".bmp",),
    "DIB": (".dib",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm", ".pfm"),
    "TGA": (".tga",),
    "PCX": (".pcx",),
    "QOI": (".qoi",),
    "ICO": (".ico",),
}
"""The formats that are read, with Pillow's names for them, and the suffixes of such files.

If a file holds several pictures (an animation, or the two pictures of a phone's camera), the first one is used.
None of these formats makes Pillow start another program.
"""
WHITE = (255, 255, 255)
MAX_PIXELS = 1 << 26
"""The largest number of pixels, 67,108,864, of one image and of all images that are decoded at once.

This is about 700 MB. Without the limit, a file of a few bytes could claim to be an image that fills the memory.
"""


class BadImageError(ValueError):
    """The error for an image that cannot be used. The message says why, without the file's name."""


class Transform(NamedTuple):
    """The steps from an encoded image to pixels: decode, turn as EXIF says, crop the centre, resize.

    The transform is part of a cache's key. The crop is a square of `crop` pixels. If that is None, it is the
    largest rectangle with the aspect of the result. The resizing is bilinear with antialiasing, in uint8.

    Attributes:
        channels: 3, or 1 to convert to grey (0.299 R + 0.587 G + 0.114 B).
        height, width: the size of the result.
        crop: the side of the centre square to keep, or None.
        source: the (height, width) that every image must have, or None for any size.
        background: the colour behind transparent parts, in RGB.
    """

    channels: int
    height: int
    width: int
    crop: int | None = None
    source: tuple[int, int] | None = None
    background: tuple[int, int, int] = WHITE

    def __call__(self, encoded: bytes) -> UInt8[Tensor, "C H W"]:
        """Return the image as uint8 (channels, height, width).

        Raises:
            BadImageError: the image is damaged, in another format, too large, or smaller than the crop.
        """
        header = check_header(encoded)
        with _at_once(header.height * header.width):
            try:
                fast = header.format in ("JPEG", "MPO") and has_fast_jpeg()
                pixels = decode_jpeg(encoded) if fast else decode_any(encoded, self.background)
            except BadImageError:
                raise
            except Exception as error:  # each format's decoder has its own errors for damaged bytes
                raise BadImageError(f"damaged or truncated {header.format}") from error
            if self.source is not None and pixels.shape[1:] != self.source:
                raise BadImageError(f"{_size(*pixels.shape[1:])} pixels instead of {_size(*self.source)}")
            pixels = to_channels(self._crop(pixels), self.channels)
            if pixels.shape[1:] == (self.height, self.width):
                return pixels.contiguous()
            return F.interpolate(pixels[None], (self.height, self.width), mode="bilinear", antialias=True)[0]

    def _crop(self, pixels: UInt8[Tensor, "C0 H0 W0"]) -> UInt8[Tensor, "C0 H1 W1"]:
        height, width = pixels.shape[1:]
        if self.crop is not None:
            tall = wide = self.crop
        else:
            scale = min(height / self.height, width / self.width)
            tall, wide = max(round(self.height * scale), 1), max(round(self.width * scale), 1)
        if tall > height or wide > width:
            raise BadImageError(f"{_size(height, width)} pixels, less than the crop of {_size(tall, wide)}")
        top, left = (height - tall) // 2, (width - wide) // 2
        return pixels[:, top : top + tall, left : left + wide]


class Header(NamedTuple):
    """The format and size of an image, known before any of it is decoded."""

    format: str
    height: int
    width: int


def open_image(file: io.BytesIO | Path) -> Image.Image:
    """Read an image's header, with the readers of `FORMATS` only. No other reader sees the file.

    Raises:
        BadImageError: the image has none of these formats, is damaged, or has more than `MAX_PIXELS`.
        OSError: the file cannot be read.
    """
    try:
        image = Image.open(file, formats=_readable())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImageError(f"more than {MAX_PIXELS:,} pixels") from error
    except UnidentifiedImageError as error:
        raise BadImageError(f"not an image of a format that is read ({', '.join(FORMATS)})") from error
    except OSError:
        raise
    except Exception as error:  # each format's reader has its own errors
        raise BadImageError("damaged or truncated") from error
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise BadImageError(f"{_size(image.height, image.width)} pixels, more than {MAX_PIXELS:,}")
    return image


@cache
def _readable() -> list[str]:
    """Return those of the formats that this Pillow was built with."""
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]


def check_header(encoded: bytes) -> Header:
    """Return the image's format and size, from its header alone.

    Raises:
        BadImageError: it is not an image, has another format, or is larger than `MAX_PIXELS`.
    """
    if not encoded:
        raise BadImageError("an empty file")
    try:
        # Only the header is read. The image is closed with its buffer.
        header = open_image(io.BytesIO(encoded))
    except OSError as error:
        raise BadImageError("damaged or truncated") from error
    return Header(str(header.format), header.height, header.width)


_free = MAX_PIXELS
_freed = Condition()


@contextmanager
def _at_once(pixels: int) -> Iterator[None]:
    """Wait until this number of pixels may be decoded, given what other threads are decoding."""
    global _free
    with _freed:
        _freed.wait_for(lambda: _free >= pixels)
        _free -= pixels
    try:
        yield
    finally:
        with _freed:
            _free += pixels
            _freed.notify_all()


@cache
def has_fast_jpeg() -> bool:
    """Return whether this torchvision has a JPEG decoder.

    From version 0.29 on, torchvision announces that a later version will not have one.
    """
    try:
        from torchvision.io import decode_jpeg as _  # noqa: F401
    except ImportError:
        return False
    return True


def decode_jpeg(encoded: bytes) -> UInt8[Tensor, "3 H W"]:
    """Return the RGB pixels of a JPEG (also of grey and CMYK ones).

    They are the same as those of `decode_any`, and this is twice as fast.
    """
    from torchvision.io import ImageReadMode, decode_jpeg

    # A bytearray, because torch warns about memory that it cannot write to.
    data = torch.frombuffer(bytearray(encoded), dtype=torch.uint8)
    pixels = decode_jpeg(data, ImageReadMode.RGB, apply_exif_orientation=True)
    assert isinstance(pixels, Tensor)
    return pixels


def decode_any(encoded: bytes, background: tuple[int, int, int] = WHITE) -> UInt8[Tensor, "3 H W"]:
    """Return the RGB pixels of an image in any format, see `to_rgb`."""
    with open_image(io.BytesIO(encoded)) as opened:
        return torch.from_numpy(np.array(to_rgb(opened, background))).permute(2, 0, 1)


def to_rgb(image: Image.Image, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """Return what an image shows: upright, in 8-bit RGB, with the background behind transparent parts.

    Whole numbers of more than 8 bits are scaled from 0…65535, and floating-point numbers from 0…1. Pillow would
    cut them off at 255.

    Raises:
        BadImageError: the numbers are outside these ranges.
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "F" or image.mode.startswith("I"):
        values, key = np.asarray(image), image.info.get("transparency")
        image = Image.fromarray(_as_bytes(values))
        if key is not None:
            image.putalpha(Image.fromarray(np.where(values == key, 0, 255).astype(np.uint8)))
    if not image.has_transparency_data:
        return image.convert("RGB")
    shown = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", shown.size, background), shown).convert("RGB")


def _as_bytes(values: np.ndarray) -> np.ndarray:
    """Convert grey values of 16 bits, or floats from 0 to 1, to 0…255 (65535 / 257 = 255)."""
    whole = np.issubdtype(values.dtype, np.integer)
    least, most = values.min(), values.max()
    if not (least >= 0 and most <= (65535 if whole else 1)):
        allowed = "whole numbers must be in 0…65535" if whole else "floating-point numbers must be in 0…1"
        raise BadImageError(f"grey values from {least:g} to {most:g}, where {allowed}")
    return (values / 257 if whole else values * 255).round().astype(np.uint8)


def to_channels(pixels: UInt8[Tensor, "3 H W"], channels: int) -> UInt8[Tensor, "C H W"]:
    """Return RGB pixels unchanged (3 channels) or as grey (1 channel)."""
    if channels == 3:
        return pixels
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (pixels * weights).sum(0, keepdim=True).round().to(torch.uint8)


def _size(height: int, width: int) -> str:
    """Return the size as people write it, the width first."""
    return f"{width}×{height}"
