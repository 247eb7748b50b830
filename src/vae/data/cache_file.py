"""The file of decoded images: writing it front to back, and mapping it into memory.

It is the pixels, N·C·H·W bytes, then its contents as JSON, then a fixed tail: the length and the
CRC-32 of the JSON and a magic word. It gets its name only when it is complete.
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
"""The pixels have a CRC-32 for each block of so many bytes, 64 MiB."""


class DamagedCacheError(ValueError):
    """A cache file that is not what was written. The message says how."""


class CachedImages(NamedTuple):
    """Pixels in a memory map; which of the listed images they are; the names of the others, and why."""

    images: UInt8[Tensor, "N C H W"]
    rows: Int64[Tensor, " N"]
    left_out: list[tuple[str, str]]


class CacheWriter:
    """Writes a cache file front to back, in bounded memory."""

    def __init__(self, file: IO[bytes], image_shape: tuple[int, int, int], key: str):
        self.file, self.image_shape, self.key = file, image_shape, key
        self.crcs: list[int] = []
        self.crc = self.in_block = 0

    def reserve(self, images: int) -> None:
        """Ask the disk for the space beforehand.

        Raises:
            OSError: it has too little.
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
        """Add the contents and the tail, and see it all to the disk."""
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
    """Map a finished cache file.

    Args:
        path: the file.
        key: what it must have been built from.
        verify: whether to check every pixel against the checksums, which reads the whole file.

    Raises:
        FileNotFoundError: it is not there.
        DamagedCacheError: it is cut short, altered, or of another key.
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
    """The JSON at the end of a cache file, with `pixel_bytes`, the length of what is before it."""
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
