"""Python's search for cyclic garbage.

By default, it would often go through the million objects of torch and Lightning.
"""

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_search() -> Iterator[None]:
    """Do not search for garbage while libraries are imported.

    All their objects stay, and the search takes a fifth of the time until training. Later searches leave out these
    objects too. If torch is already imported, this does nothing.
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
    """Exclude all objects of now from every later search.

    The interpreter's own search at its end is the only exception.
    """
    gc.freeze()
    atexit.unregister(gc.unfreeze)
    atexit.register(gc.unfreeze)
