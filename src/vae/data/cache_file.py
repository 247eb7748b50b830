"""The file of decoded images: writing it from front to back, and mapping it into memory.

The file holds the pixels (N·C·H·W bytes), then its contents as JSON, then a tail of fixed size: the length and the
CRC-32 of the JSON, and a magic word. The file gets its name only when it is complete.
"""

import json
import os
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

MAGIC = b"vae-img1"
TAIL = struct.Struct("<QI8s")
BLOCK = 1 << 26
"""The size in bytes (64 MiB) of a block of pixels. Each block has its own CRC-32."""


class DamagedCacheError(ValueError):
    """The error for a cache file that differs from what was written. The message says how."""


class CachedImages(NamedTuple):
    """Pixels in a memory map.

    Attributes:
        images: the pixels.
        rows: the position of each of them in the list of images.
        left_out: the names of the other listed images, each with the reason.
    """

    images: UInt8[Tensor, "N C H W"]
    rows: Int64[Tensor, " N"]
    left_out: list[tuple[str, str]]


class CacheWriter:
    """A writer of a cache file, from front to back and in bounded memory."""

    def __init__(self, file: IO[bytes], image_shape: tuple[int, int, int], key: str):
        self.file, self.image_shape, self.key = file, image_shape, key
        self.crcs: list[int] = []
        self.crc = self.in_block = 0

    def reserve(self, images: int) -> None:
        """Reserve the space on the disk.

        Raises:
            OSError: the disk has too little space.
        """
        if hasattr(os, "posix_fallocate") and images:
            os.posix_fallocate(self.file.fileno(), 0, images * int(np.prod(self.image_shape)))

    def append(self, image: UInt8[Tensor, "C H W"]) -> None:
        """Add an image."""
        pixels = memoryview(image.numpy().tobytes())
        self.file.write(pixels)
        while len(pixels):
            part = pixels[: BLOCK - self.in_block]
            self.crc = zlib.crc32(part, self.crc)
            self.in_block += len(part)
            pixels = pixels[len(part) :]
            if self.in_block == BLOCK:
                self._close_block()

    def _close_block(self) -> None:
        self.crcs.append(self.crc)
        self.crc = self.in_block = 0

    def finish(self, listed: int, left_out: dict[int, tuple[str, str]]) -> None:
        """Add the contents and the tail, and wait until everything is on the disk."""
        if self.in_block:
            self._close_block()
        contents = {
            "key": self.key,
            "image_shape": self.image_shape,
            "listed": listed,
            "left_out": [[row, *why] for row, why in sorted(left_out.items())],
            "crcs": self.crcs,
        }
        text = json.dumps(contents).encode()
        self.file.write(text + TAIL.pack(len(text), zlib.crc32(text), MAGIC))
        self.file.truncate()
        self.file.flush()
        os.fsync(self.file.fileno())


def open_cache(path: Path, key: str, verify: bool) -> CachedImages:
    """Map a finished cache file into memory.

    Args:
        path: the file.
        key: the key that the file must have been built with.
        verify: whether to check every pixel against the checksums, which reads the whole file.

    Raises:
        FileNotFoundError: the file does not exist.
        DamagedCacheError: the file is cut short, was changed, or has another key.
    """
    with path.open("rb") as file:
        contents = _contents(file)
    if contents["key"] != key:
        raise DamagedCacheError("it was built from something else")
    shape = contents["image_shape"]
    left_out = {row: (name, why) for row, name, why in contents["left_out"]}
    count = contents["listed"] - len(left_out)
    size = count * int(np.prod(shape))
    if size != contents["pixel_bytes"]:
        raise DamagedCacheError("it is cut short")
    pixels = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8)
    if verify and _crcs(pixels) != contents["crcs"]:
        raise DamagedCacheError("its pixels do not match their checksums")
    rows = torch.from_numpy(np.delete(np.arange(contents["listed"]), list(left_out)))
    return CachedImages(pixels.view(count, *shape), rows, list(left_out.values()))


def _contents(file: IO[bytes]) -> dict[str, Any]:
    """Read the JSON at the end of a cache file.

    The result also has `pixel_bytes`, the number of bytes before the JSON.
    """
    size = file.seek(0, os.SEEK_END)
    if size < TAIL.size:
        raise DamagedCacheError("it is cut short")
    file.seek(size - TAIL.size)
    length, crc, magic = TAIL.unpack(file.read(TAIL.size))
    start = size - TAIL.size - length
    if magic != MAGIC or start < 0:
        raise DamagedCacheError("it is cut short")
    file.seek(start)
    text = file.read(length)
    if zlib.crc32(text) != crc:
        raise DamagedCacheError("its contents do not match their checksum")
    return json.loads(text) | {"pixel_bytes": start}


def _crcs(pixels: UInt8[Tensor, " M"]) -> list[int]:
    blocks = np.split(pixels.numpy(), range(BLOCK, len(pixels), BLOCK)) if len(pixels) else []
    with ThreadPoolExecutor() as pool:
        return list(pool.map(zlib.crc32, blocks))
