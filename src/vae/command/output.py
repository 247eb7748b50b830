"""What is printed, where nobody may be there to read it: `train.py | head`, a closed terminal, a full disk."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def output_may_end() -> Iterator[None]:
    """Inside, stdout and stderr that can no longer be written end nothing but themselves."""
    _fill_closed_descriptors()
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (
        LastingStream(stream)
        if isinstance(stream, io.TextIOWrapper)
        else stream or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
        for stream in before
    )
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = before


def _fill_closed_descriptors() -> None:
    """Keep files that are opened later from taking the number of a closed stdout, to which libraries print."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one


class LastingStream:
    """A text stream that goes nowhere once it cannot be written, and says so on stderr."""

    def __init__(self, stream: io.TextIOWrapper):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text; see `io.TextIOBase`."""
        try:
            return self._stream.write(text)
        except OSError as error:
            self._go_nowhere(error)
            return len(text)

    def flush(self) -> None:
        """Bring what was written to its end."""
        try:
            self._stream.flush()
        except OSError as error:
            self._go_nowhere(error)

    def _go_nowhere(self, error: OSError) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())
        os.close(nowhere)
        if self._stream is not sys.__stderr__:
            print(f"warning: stdout cannot be written ({error.strerror}); it goes on without", file=sys.stderr)
