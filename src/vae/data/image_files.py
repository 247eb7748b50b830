"""The sources of encoded images: files in a folder, or entries of a zip that is read without unpacking."""

import os
import struct
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from vae.checks import ConfigError
from vae.data.decode import MAX_PIXELS, BadImageError

MAX_BYTES = 3 * MAX_PIXELS
"""The largest encoded size of a file that is read: the largest allowed image, uncompressed."""
SMALL, MOST_PACKED = 1 << 13, 20
"""The limits for a packed entry of a zip: bytes up to which it is small, and how many times smaller it may be.

An image is compressed already, so a zip makes a large image hardly smaller. If an entry became more than 20 times
smaller, its few bytes may stand for hours of decoding.
"""


class ImageFiles(ABC):
    """A sequence of encoded images, each with a name that says where to find it.

    Attributes:
        names: one name for each image, relative to `path`.
        path: the folder or zip.
    """

    def __init__(self, path: Path, names: Sequence[str]):
        self.path, self.names = path, names

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def stamp(self) -> str:
        """Return a text that changes when an image changes. It is part of a cache's key."""

    @abstractmethod
    def sizes(self) -> list[int | None]:
        """Return the encoded size of each image in bytes, which tells apart images of the same name.

        In a zip, it is the size of the zip.
        """

    @abstractmethod
    def missing(self) -> list[int]:
        """Return the positions of the images that do not exist."""

    @abstractmethod
    def read(self, position: int) -> bytes:
        """Return the encoded image. Several threads may call this at the same time.

        Raises:
            BadImageError: the image is missing, cannot be read, or is too large.
        """


class FolderFiles(ImageFiles):
    """Files in a folder. The stamp holds the size and the time of change of each file."""

    @cached_property
    def _stats(self) -> list[tuple[int, int] | None]:
        return [_size_and_time(os.path.join(self.path, name)) for name in self.names]

    def stamp(self) -> str:
        return repr(self._stats)

    def sizes(self) -> list[int | None]:
        return [None if stat is None else stat[0] for stat in self._stats]

    def missing(self) -> list[int]:
        return [position for position, stat in enumerate(self._stats) if stat is None]

    def read(self, position: int) -> bytes:
        stat = self._stats[position]
        if stat is None:
            raise BadImageError("missing")
        if stat[0] > MAX_BYTES:
            raise BadImageError(f"{stat[0]:,} bytes, more than {MAX_BYTES:,}")
        try:
            with open(os.path.join(self.path, self.names[position]), "rb") as file:
                return file.read()
        except OSError as error:
            raise BadImageError(f"cannot be read: {error.strerror}") from error


class ZipFiles(ImageFiles):
    """Entries of a zip, read without unpacking. The stamp is the zip's own size and time of change.

    A name without a folder is found in any folder of the zip. The zip's directory is long if there are many
    entries, so it is read only when an image is read.
    """

    def stamp(self) -> str:
        return repr(_size_and_time(str(self.path)))

    def sizes(self) -> list[int | None]:
        stat = _size_and_time(str(self.path))
        return [None if stat is None else stat[0]] * len(self.names)

    @cached_property
    def _zip(self) -> zipfile.ZipFile:
        return open_zip(self.path)

    @cached_property
    def _entries(self) -> list[zipfile.ZipInfo | None]:
        entries = self._zip.NameToInfo
        by_file_name = {name.rpartition("/")[2]: entry for name, entry in entries.items()}
        return [entries.get(name) or by_file_name.get(name) for name in self.names]

    def missing(self) -> list[int]:
        return [position for position, entry in enumerate(self._entries) if entry is None]

    def read(self, position: int) -> bytes:
        entry = self._entries[position]
        if entry is None:
            raise BadImageError("missing")
        if entry.file_size > MAX_BYTES:
            raise BadImageError(f"{entry.file_size:,} bytes, more than {MAX_BYTES:,}")
        if entry.file_size > max(SMALL, MOST_PACKED * entry.compress_size):
            raise BadImageError(
                f"packed to {entry.compress_size:,} of {entry.file_size:,} bytes, as no image can be"
            )
        try:
            return self._zip.read(entry)
        except Exception as error:  # damaged bytes raise errors of many types
            raise BadImageError(f"cannot be read from the zip: {error}") from error


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip and check that the names of its entries stay inside it.

    Raises:
        ConfigError: the file is no zip or is damaged, or a name is absolute or contains `..`.
    """
    try:
        opened = zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise ConfigError(f"{path}: not a readable zip ({error})") from error
    for name in opened.NameToInfo:
        if not is_below(name):
            raise ConfigError(f"{path}: refused, because its entry {name!r} lies outside of the zip")
    return opened


def is_below(name: str) -> bool:
    """Return whether a relative name stays below the folder that it is relative to."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0] if path.parts else False


def _size_and_time(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_size, stat.st_mtime_ns
