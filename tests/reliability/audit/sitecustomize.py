"""With this in PYTHONPATH each process notes, in a file of its own in AUDIT_RECORDS, which files it writes."""

import os
import sys


def _note_writes() -> None:
    folder = os.environ["AUDIT_RECORDS"]

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str) or not isinstance(arguments[2], int):
            return
        path = os.path.abspath(arguments[0])
        if arguments[2] & (os.O_WRONLY | os.O_RDWR) and not path.startswith((folder, "/dev/", "/proc/")):
            with open(os.path.join(folder, str(os.getpid())), "a") as file:
                file.write(path + "\n")

    sys.addaudithook(hook)


if "AUDIT_RECORDS" in os.environ:
    _note_writes()
