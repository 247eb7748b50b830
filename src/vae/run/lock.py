"""Locks on files that end with the process that holds them, however that ends.

filelock, which guards the image cache, can neither hand a lock to a child process nor look at one without taking
it.
"""

import fcntl
import os
import socket
import sys
import time
from pathlib import Path
from typing import IO

from vae.checks import ConfigError

PATIENCE = 5.0
"""Seconds of waiting after which it is said for what."""


class LocklessError(ConfigError):
    """The file system of a folder has no locks."""


def lock_file(path: Path, wait: bool = True) -> IO[str] | None:
    """Open a file, made if need be, under an exclusive lock.

    The lock ends when the file is closed, or with the process. A child process that is given the file's descriptor
    holds the lock as well.

    Returns:
        The file, or None if another process holds its lock and `wait` is false.

    Raises:
        LocklessError: the file system has none.
    """
    deadline, told = time.monotonic() + PATIENCE, False
    while True:
        file = path.open("a+", encoding="utf-8")
        try:
            is_taken = _taken(file, path)
        except BaseException:
            file.close()
            raise
        if is_taken and _has_its_name(file, path):
            return file
        file.close()
        if is_taken:
            continue
        if not wait:
            return None
        if time.monotonic() > deadline and not told:
            told = True
            print(f"waiting for {holder(path)}, which holds {path}", file=sys.stderr, flush=True)
        time.sleep(0.1)


def _has_its_name(file: IO[str], path: Path) -> bool:
    """Return whether the file has not been deleted, by who held its lock, since it was opened."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:  # there is none any more; of NFS, ESTALE
        return False


def _taken(file: IO[str], path: Path) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise LocklessError(f"{path.parent}: its file system has no locks ({error.strerror})") from error
    return True


def sign(file: IO[str]) -> None:
    """Write into a locked file who holds it."""
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()


def holder(path: Path) -> str:
    """Return who holds a lock, as far as its file says."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip() or "an unknown process"
    except FileNotFoundError:  # it has just let go of it
        return "an unknown process"


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock of a file; the file need not exist."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise LocklessError(f"{path.parent}: its file system has no locks ({error.strerror})") from error
    return False
