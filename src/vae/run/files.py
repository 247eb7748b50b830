"""Small files that others may read while they are written."""

import json
import math
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vae.checks import ConfigError

PARTIAL = ".partial"
"""The suffix of a file that is being written."""
OF_WANDB = ("latest-run", "debug.log", "debug-internal.log", "debug-core.log")
"""Links that W&B makes below its folder. It replaces them and never follows them."""


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that there is always either the complete old file or the complete new one.

    This holds for a reader at any time, and after a power failure.

    Raises:
        ConfigError: see `open_atomically`.
    """
    with open_atomically(path) as file:
        file.write(text.encode())


@contextmanager
def open_atomically(path: Path) -> Iterator[IO[bytes]]:
    """Open a new file, which gets its name when what is written inside the block is on the disk.

    Until then it has a name that nobody can predict, because a stranger may have put a link into a run's folder.

    Raises:
        ConfigError: there is a link at the path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        raise ConfigError(f"{path}: is a link, and a run's files are not written through links; delete it")
    partial = path.with_name(f"{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    try:
        with os.fdopen(os.open(partial, flags, 0o666), "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def remove_partials(folder: Path, pattern: str = "**/*") -> None:
    """Delete the partial files that a killed process left.

    No other process may be writing these files.
    """
    for path in folder.glob(pattern + PARTIAL):
        path.unlink(missing_ok=True)


def check_folder(folder: Path) -> None:
    """Refuse a run's or a sweep's folder if writing in it would reach files outside.

    This is called before anything is written.

    Raises:
        ConfigError: there is a link in it, or a file that says where W&B sends a run.
    """
    for place, folders, files in os.walk(folder):
        below = Path(place).relative_to(folder).parts
        for name in [*folders, *files]:
            path = Path(place, name)
            if path.is_symlink() and not ("wandb" in below and name in OF_WANDB):
                raise ConfigError(
                    f"{path}: is a link, to {os.readlink(path)!a}, and may lead out of the folder, in which"
                    " alone is written; delete it"
                )
        if below[-1:] == ("wandb",) and "settings" in files:
            raise ConfigError(f"{place}/settings: says where W&B sends a run, which is yours to say; delete it")


def to_json(value: Any, indent: int | None = None) -> str:
    """Return plain data as JSON.

    Numbers that are not finite become null, because JSON has no such numbers.
    """
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the contents of a JSON file, an object, or None if there is no such file.

    Raises:
        ConfigError: the file is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: a damaged file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a damaged file (it holds no object)")
    return content


def folders_with(root: Path, file: str) -> Iterator[tuple[float, Path]]:
    """Find the folders below `root` that have a file, and when it was written; none is sought within another."""
    for folder, names, _ in os.walk(root):
        path = Path(folder, file)
        if path.is_file():
            names.clear()
            yield path.stat().st_mtime, Path(folder)
