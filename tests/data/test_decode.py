import io
import struct
import time
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pictures_on_disk import encode, pixels
from vae.data import decode
from vae.data.decode import BadImageError, Transform, decode_any, decode_jpeg
from vae.data.image_files import ZipFiles

# Of torchvision 0.29 and later; src/vae/data/decode.py does without where there is no such decoder.
pytestmark = pytest.mark.filterwarnings("ignore:The image decoding and encoding capabilities of TorchVision")

WHOLE = Transform(3, 48, 64)


def _image(height: int = 48, width: int = 64) -> Image.Image:
    return Image.fromarray(pixels(0, height, width))


def _oriented(orientation: int, file_format: str) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encode(_image(), file_format, exif=exif)


def _png_that_claims(width: int, height: int) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 10) + b"IDAT" + bytes(14)


@pytest.mark.parametrize(
    ("encoded", "tolerance"),
    [
        pytest.param(encode(_image(), "PNG"), 0, id="png"),
        pytest.param(encode(_image().convert("RGBA"), "PNG"), 0, id="alpha"),
        pytest.param(encode(_image().quantize(256), "PNG"), 40, id="palette"),
        pytest.param(encode(_image(), "WEBP", lossless=True), 0, id="webp"),
        pytest.param(encode(_image(), quality=95), 16, id="jpeg"),
        pytest.param(encode(_image(), quality=95, progressive=True), 16, id="progressive"),
        pytest.param(encode(_image().convert("CMYK"), quality=95), 16, id="cmyk"),
    ],
)
def test_colours_come_back(encoded: bytes, tolerance: int) -> None:
    expected = torch.from_numpy(pixels(0, 48, 64).copy()).permute(2, 0, 1).int()
    assert (WHOLE(encoded).int() - expected).abs().max() <= tolerance


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_grey_becomes_three_equal_channels(file_format: str) -> None:
    made = WHOLE(encode(_image().convert("L"), file_format)).int()
    assert (made - made[:1]).abs().max() <= 2


def test_sixteen_bits_are_scaled_not_cut_off() -> None:
    levels = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64) * 21
    made = WHOLE(encode(levels, "PNG"))
    torch.testing.assert_close(made[0].double(), torch.from_numpy(levels / 257), atol=0.5, rtol=0)


@pytest.mark.parametrize("dtype", [">u2", "<u2", "<i4", "<f4"])
def test_numbers_of_more_than_eight_bits_in_a_tiff(dtype: str) -> None:
    levels = np.arange(48 * 64).reshape(48, 64) * 21
    values = (levels / 65535 if "f" in dtype else levels).astype(dtype)
    made = WHOLE(encode(values, "TIFF"))
    torch.testing.assert_close(made[0].double(), torch.from_numpy(levels / 257), atol=0.51, rtol=0)


def test_a_phones_two_pictures_in_one_file() -> None:
    second = Image.fromarray(255 - pixels(0, 48, 64))
    encoded = encode(_image(), "MPO", save_all=True, append_images=[second], quality=95)
    assert Image.open(io.BytesIO(encoded)).format == "MPO"
    assert torch.equal(WHOLE(encoded), WHOLE(encode(_image(), quality=95)))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P", "RGB", "I;16"])
@pytest.mark.parametrize("background", [(255, 255, 255), (10, 20, 30)])
def test_what_is_transparent_shows_the_background(mode: str, background: tuple[int, int, int]) -> None:
    """The left half is black and transparent, the right half white and not."""
    grey = np.zeros((4, 8), np.uint8)
    grey[:, 4:] = 255
    if mode in ("P", "RGB"):
        picture = Image.fromarray(grey).convert(mode)
        encoded = encode(picture, "PNG", transparency=0 if mode == "P" else (0, 0, 0))
    elif mode == "I;16":
        encoded = encode(Image.fromarray(grey.astype(np.uint16) * 257), "PNG", transparency=0)
    else:
        picture = Image.fromarray(grey).convert({"RGBA": "RGB", "LA": "L", "PA": "P"}[mode])
        picture.putalpha(Image.fromarray(grey))
        assert picture.mode == mode
        encoded = encode(picture, "TIFF" if mode == "PA" else "PNG")
    made = Transform(3, 4, 8, background=background)(encoded)
    assert made[:, 0, 0].tolist() == list(background)
    assert made[:, 0, 7].tolist() == [255, 255, 255]


def test_half_transparent_is_half_of_each() -> None:
    red = Image.new("RGBA", (4, 4), (255, 0, 0, 128))
    assert Transform(3, 4, 4)(encode(red, "PNG"))[:, 0, 0].tolist() == [255, 127, 127]
    assert Transform(3, 4, 4, background=(0, 0, 0))(encode(red, "PNG"))[:, 0, 0].tolist() == [128, 0, 0]


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(file_format: str, orientation: int) -> None:
    upright = decode_any(encode(_image(), file_format))
    turned = {
        1: upright,
        2: upright.flip(2),
        3: upright.flip(1, 2),
        4: upright.flip(1),
        5: upright.mT,
        6: upright.mT.flip(2),
        7: upright.mT.flip(1, 2),
        8: upright.mT.flip(1),
    }[orientation]
    made = Transform(3, *turned.shape[1:])(_oriented(orientation, file_format))
    assert (made.int() - turned.int()).abs().max() <= (12 if file_format == "WEBP" else 0)


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_fast_decoder_equals_pillow(mode: str) -> None:
    encoded = encode(_image().convert(mode))
    assert (decode_jpeg(encoded).int() - decode_any(encoded).int()).abs().max() <= (1 if mode == "CMYK" else 0)


def test_without_a_fast_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = encode(_image())
    with_it = WHOLE(encoded)
    monkeypatch.setattr(decode, "has_fast_jpeg", lambda: False)
    assert torch.equal(WHOLE(encoded), with_it)


def test_grey_weights() -> None:
    red, green, blue = (encode(Image.new("RGB", (8, 8), colour), "PNG") for colour in ("red", "lime", "blue"))
    assert [int(Transform(1, 8, 8)(one)[0, 0, 0]) for one in (red, green, blue)] == [76, 150, 29]


def test_centre_crop_then_antialiased_resize() -> None:
    encoded = encode(_image(218, 178))
    expected = F.interpolate(
        decode_any(encoded)[None, :, 39:179, 19:159].float(), (64, 64), mode="bilinear", antialias=True
    )[0]
    made = Transform(3, 64, 64, crop=140)(encoded)
    torch.testing.assert_close(made.float(), expected, atol=1.0, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(10, 10), (50, 20), (20, 50), (1, 1), (3, 100)])
def test_without_a_crop_the_largest_centre_of_the_aspect(height: int, width: int) -> None:
    assert Transform(3, 10, 20)(encode(_image(height, width), "PNG")).shape == (3, 10, 20)
    half = np.zeros((20, 40, 3), np.uint8)
    half[:, 10:30] = 255
    assert Transform(3, 10, 10)(encode(half, "PNG")).float().mean() == 255


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
"""For which Pillow would start Ghostscript."""


@pytest.mark.parametrize(
    ("encoded", "why"),
    [
        (b"", "an empty file"),
        (b"hello world", "not an image"),
        (encode(_image())[:-300], "damaged or truncated JPEG"),
        (encode(_image(), progressive=True)[:-300], "damaged or truncated JPEG"),
        (encode(_image())[:200], "damaged or truncated"),
        (encode(_image(), "PNG")[:-100], "damaged or truncated PNG"),
        (encode(_image(), "WEBP")[:-50], "damaged or truncated"),
        (encode(_image(), "PDF"), "not an image"),
        (EPS, "not an image of a format that is read"),
        (encode(_image(), "SGI"), "not an image of a format that is read .JPEG, MPO, PNG, "),
        (encode(np.full((48, 64), 70_000, np.int32), "TIFF"), "grey values from 70000 to 70000, where whole"),
        (encode(np.full((48, 64), -1, np.int32), "TIFF"), "grey values from -1 to -1, where whole numbers must"),
        (encode(np.full((48, 64), 1.5, np.float32), "TIFF"), "grey values from 1.5 to 1.5, where floating-point"),
        (encode(np.full((48, 64), np.nan, np.float32), "TIFF"), "grey values from nan to nan"),
        (encode(_image(20, 20)), r"20×20 pixels, less than the crop of 40×40"),
        (encode(_image(60, 60)), r"60×60 pixels instead of 64×48"),
        (_png_that_claims(30_000, 30_000), "more than 67,108,864 pixels"),
        (_png_that_claims(10_000, 10_000), "10000×10000 pixels, more than 67,108,864"),
    ],
    ids=lambda value: value if isinstance(value, str) else "bytes",  # a PDF holds the second in which it was made
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_images(encoded: bytes, why: str) -> None:
    source = (48, 64) if "instead" in why else None
    with pytest.raises(BadImageError, match=why):
        Transform(3, 10, 10, 40 if source is None else 10, source)(encoded)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_any_cut_is_refused_or_decoded(file_format: str) -> None:
    """However a file is cut, the outcome is an image or `BadImageError`, never another exception."""
    encoded = encode(_image(), file_format)
    for length in np.linspace(0, len(encoded) - 1, 60).astype(int):
        try:
            assert WHOLE(encoded[:length]).shape == (3, 48, 64)
        except BadImageError:
            continue


@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP"])
def test_any_flipped_byte_is_refused_or_decoded(file_format: str) -> None:
    encoded = encode(_image(), file_format)
    for position in np.linspace(0, len(encoded) - 1, 150).astype(int):
        damaged = bytearray(encoded)
        damaged[position] ^= 0xFF
        try:
            assert WHOLE(bytes(damaged)).shape == (3, 48, 64)
        except BadImageError:
            continue


def test_large_images_are_decoded_one_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many threads there are, so that a folder of them needs the memory of one."""
    encoded, together, most = encode(Image.new("L", (8000, 5000)), "PNG"), Counter[str](), list[int]()

    def decode(encoded: bytes, background: object) -> torch.Tensor:
        together["now"] += 1
        most.append(together["now"])
        time.sleep(0.02)
        together["now"] -= 1
        return torch.zeros(3, 48, 64, dtype=torch.uint8)

    monkeypatch.setattr("vae.data.decode.decode_any", decode)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(WHOLE, [encoded] * 6))
        assert max(most) == 1
        most.clear()
        list(pool.map(WHOLE, [encode(_image(), "PNG")] * 8))
        assert max(most) > 1


def test_a_zip_of_few_bytes_that_stand_for_many_images_is_refused_unread(tmp_path: Path) -> None:
    blank = encode(Image.new("L", (8000, 8000)), "PNG")
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for number in range(20):
            archive.writestr(f"{number}.png", blank)
        archive.writestr("honest.png", encode(_image(), "PNG"))
    names = [f"{number}.png" for number in range(20)] + ["honest.png"]
    files = ZipFiles(tmp_path / "bomb.zip", names)
    for position in range(20):
        with pytest.raises(BadImageError, match=r"packed to .* bytes, as no image can be"):
            files.read(position)
    assert WHOLE(files.read(20)).shape == (3, 48, 64)
