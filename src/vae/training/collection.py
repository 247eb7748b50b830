"""Python's search for cyclic garbage, which would go through the million objects of torch and Lightning often."""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_search() -> Iterator[None]:
    """Do not search while libraries are imported, all of which stays: it takes a fifth of the time until training.

    Nor is what they made searched later. Where torch is there already, this does nothing.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        exempt_what_is_alive()


def exempt_what_is_alive() -> None:
    """Leave all objects of now out of every later search but the interpreter's own at its end."""
    gc.freeze()
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)
