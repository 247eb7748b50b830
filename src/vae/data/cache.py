"""The cache of decoded images.

Each set is decoded once, into a file that every run, rank and job maps into memory.
"""

import hashlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from vae.checks import ConfigError, check_choice
from vae.data.cache_file import CachedImages, CacheWriter, DamagedCacheError, open_cache
from vae.data.decode import BadImageError, Transform
from vae.data.decode_all import decode_all
from vae.data.image_files import ImageFiles
from vae.progress import task


class ImageCache:
    """The decoded images of `files`, in `<folder>/<name>-<height>x<width>x<channels>-<key>.images`.

    The key is a hash of the names of the files, their stamp and the transform. If one of these changes, the name
    of the cache file changes too, and a new file is built. If several processes, on one machine or on several
    machines with a shared disk, need the file, one builds it and the others wait (which needs a file system with
    locks).

    Args:
        folder: `paths.cache`.
        name: the name of the data set, which is the first part of the file's name.
        files: the encoded images.
        transform: what is done to each image.
        on_bad: `error` to refuse a set with images that cannot be used, `skip` to leave them out.
    """

    def __init__(self, folder: Path, name: str, files: ImageFiles, transform: Transform, on_bad: str = "error"):
        self.files, self.transform = files, transform
        self.on_bad = check_choice("data.on_bad", on_bad, ("error", "skip"))
        parts = (tuple(files.names), files.stamp(), tuple(transform))
        self.key = hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()
        size = f"{transform.height}x{transform.width}x{transform.channels}"
        self.folder, self.path = folder, folder / f"{name}-{size}-{self.key[:12]}.images"

    def open(self, verify: bool = True) -> CachedImages:
        """Return the images. They are decoded now if no process has decoded them before.

        Args:
            verify: whether to check the pixels of an existing file, which reads all of it.

        Raises:
            ConfigError: there are images that cannot be used, or the folder cannot be written.
        """
        try:
            cached = open_cache(self.path, self.key, verify)
        except (FileNotFoundError, NotADirectoryError):
            cached = self._build_or_wait(verify)
        except DamagedCacheError as damage:
            _say(f"{self.path}: {damage}; building it anew")
            cached = self._build_or_wait(verify)
        self._judge(cached.left_out)
        return cached

    def _build_or_wait(self, verify: bool) -> CachedImages:
        with self._locked():
            try:
                return open_cache(self.path, self.key, verify)
            except (FileNotFoundError, DamagedCacheError):
                self._build()
                return open_cache(self.path, self.key, verify=False)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock that lets only one process build the file. The lock ends when its process ends."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.path.with_suffix(".lock"))
            try:
                lock.acquire(timeout=0)
            except Timeout:
                _say(f"waiting for another process, which is building {self.path}")
                lock.acquire()
        except (OSError, NotImplementedError) as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    def _build(self) -> None:
        missing = [(self.files.names[position], "missing") for position in self.files.missing()]
        self._judge(missing, quietly=True)
        partial = self.path.with_name(self.path.name + ".partial")
        try:
            self._write(partial)
            partial.replace(self.path)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            partial.unlink(missing_ok=True)

    def _write(self, partial: Path) -> None:
        """Decode all images into a file that does not have its final name yet.

        Raises:
            OSError: the file cannot be written.
            ConfigError: there are bad images that must not be left out.
        """
        shape = (self.transform.channels, self.transform.height, self.transform.width)
        bad: dict[int, tuple[str, str]] = {}
        count, started = len(self.files), time.monotonic()
        with partial.open("wb") as file, task(f"decoding {count:,} images", count) as decoding:
            writer = CacheWriter(file, shape, self.key)
            writer.reserve(len(self.files))
            for position, image in decode_all(self.files, self.transform):
                if isinstance(image, BadImageError):
                    bad[position] = (self.files.names[position], str(image))
                else:
                    writer.append(image)
                decoding.advance()
            self._judge(list(bad.values()), quietly=True)
            writer.finish(count, bad)
        seconds = time.monotonic() - started
        _say(f"decoded {count:,} images in {seconds:.1f} s ({count / seconds:,.0f} images/s)")

    def _judge(self, bad: Sequence[tuple[str, str]], quietly: bool = False) -> None:
        """Refuse bad images, or print that they are left out."""
        if not bad:
            return
        some = ", ".join(f"{name} ({why})" for name, why in bad[:3]) + (", …" if len(bad) > 3 else "")
        found = f"{len(bad):,} of the {len(self.files):,} images in {self.files.path} cannot be used: {some}"
        if len(bad) == len(self.files):
            raise ConfigError(found)
        if self.on_bad == "error":
            raise ConfigError(f"data.on_bad=error: {found}; data.on_bad=skip leaves such images out")
        if not quietly:
            _say(f"data.on_bad=skip: {found}")

    def _unwritable(self, error: Exception) -> ConfigError:
        why = getattr(error, "strerror", None) or str(error)
        return ConfigError(
            f"paths.cache={self.folder}: cannot write {self.path.name} ({why});"
            " choose another folder with paths.cache=… or the environment variable CACHE_DIR"
        )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
