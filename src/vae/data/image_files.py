"""Where encoded images come from: files in a folder, or entries of a zip that is read in place."""

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
"""The encoded size above which a file is not read: as large as the largest allowed image uncompressed."""
SMALL, MOST_PACKED = 1 << 13, 20
"""Zipping makes a large image hardly smaller, as it has been compressed. What becomes 20 times smaller is one of
those few bytes that stand for hours of decoding."""


class ImageFiles(ABC):
    """A sequence of encoded images, each with a name that says where to look for it.

    Attributes:
        names: one for each image, relative to `path`.
        path: the folder or zip.
    """

    def __init__(self, path: Path, names: Sequence[str]):
        self.path, self.names = path, names

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def stamp(self) -> str:
        """What changes when an image does; part of a cache's key."""

    @abstractmethod
    def sizes(self) -> list[int | None]:
        """What tells an image from another of its name: its encoded size in bytes; in a zip, that of the zip."""

    @abstractmethod
    def missing(self) -> list[int]:
        """The positions of the images that are not there."""

    @abstractmethod
    def read(self, position: int) -> bytes:
        """The encoded image. Safe to call from several threads.

        Raises:
            BadImageError: it is missing, cannot be read, or is too large.
        """


class FolderFiles(ImageFiles):
    """Files in a folder. The stamp is each file's size and time of change."""

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
    """Entries of a zip, read in place. The stamp is the zip's own size and time of change.

    A name without a folder is found in any folder of the zip. The zip's directory, long for many entries,
    is read only when an image is.
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
        except Exception as error:  # what unpacking damaged bytes raises is of many types
            raise BadImageError(f"cannot be read from the zip: {error}") from error


def open_zip(path: Path) -> zipfile.ZipFile:
    """A zip whose entries' names are all below it.

    Raises:
        ConfigError: no zip, a damaged one, or one with absolute names or `..` in them.
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
    """Whether a relative name stays below the folder it is relative to."""
    path = PurePosixPath(name.replace("\\", "/"))
    return not path.is_absolute() and ".." not in path.parts and ":" not in path.parts[0] if path.parts else False


def _size_and_time(path: str) -> tuple[int, int] | None:
    try:
        stat = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stat.st_size, stat.st_mtime_ns
