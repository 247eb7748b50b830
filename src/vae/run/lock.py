"""Locks on files that end with the process that holds them, however that ends.

filelock, which guards the image cache, can neither hand a lock to a child process nor look at one without taking
it.
"""

import fcntl
from pathlib import Path
from typing import IO


def lock_file(path: Path, wait: bool = True) -> IO[str] | None:
    """Open a file, made if need be, under an exclusive lock.

    The lock ends when the file is closed, or with the process. A child process that is given the file's descriptor
    holds the lock as well.

    Returns:
        The file, or None if another process holds its lock and `wait` is false.
    """
    file = path.open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        file.close()
        return None
    return file


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of a file; the file need not exist."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
