"""Signals that ask a run to end: it ends at once, and says how to go on."""

import math
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
"""Ctrl-C; what schedulers and spot machines send before they kill; what SLURM sends with `--signal=USR1@…`; the
terminal was closed."""

GRACE = 5.0
"""Seconds for which further signals are ignored while the run ends."""


class Interrupted(SystemExit):
    """A signal ended the run. The exit status is 128 + the signal's number, as shells have it."""

    def __init__(self, signum: int):
        self.status = 128 + signum
        super().__init__(self.status)
        self.name = signal.Signals(signum).name
        self._said = False

    def say(self, what_now: str) -> None:
        """Print, once, which signal it was and what is left; of several ranks, the first does."""
        is_first = all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "SLURM_PROCID"))
        if is_first and not self._said:
            self._said = True
            print(f"{self.name}: stopped; {what_now}", file=sys.stderr)


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Inside, the signals of `SIGNALS` raise `Interrupted` wherever the main thread is.

    A run needs no time to save itself: its last checkpoint is whole at any moment, and what came after it is
    repeated to the last bit. Signals that something else handles already, such as a launcher that requeues its
    own jobs, are left to it.
    """
    names = [name for name in SIGNALS if hasattr(signal, name)]
    free = (signal.SIG_DFL, signal.default_int_handler)
    mine = [signal.Signals[name] for name in names if signal.getsignal(signal.Signals[name]) in free]
    if threading.current_thread() is not threading.main_thread():
        mine = []
    handler = _Handler()
    _Handler.last = None
    before = {signum: signal.signal(signum, handler) for signum in mine}
    try:
        yield
    finally:
        for signum, earlier in before.items():
            signal.signal(signum, earlier)


def signal_behind() -> Interrupted | None:
    """Return the signal that has been raised, if there was one: OmegaConf may turn it into an error of its own."""
    return _Handler.last


@contextmanager
def interrupted_in_one_line() -> Iterator[None]:
    """Inside, the same, where nothing has been saved yet: the signal is printed, and ends the process."""
    with signals_interrupt():
        try:
            yield
        except Interrupted as signal:
            signal.say("nothing was saved")
            raise


class _Handler:
    """Raises at a signal; those that follow within a few seconds must not disturb the ending."""

    last: Interrupted | None = None

    def __init__(self) -> None:
        self.raised = -math.inf

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if time.monotonic() - self.raised < GRACE:
            return
        self.raised = time.monotonic()
        name = signal.Signals(signum).name
        if name == "SIGUSR1":
            _requeue()
        if name == "SIGHUP":
            _let_go_of_the_terminal()
        _Handler.last = Interrupted(signum)
        raise _Handler.last


def _let_go_of_the_terminal() -> None:
    """Print nowhere what was to be printed on a terminal that is no more: each such line would be an error."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        # Whether it is a terminal can no longer be asked of it.
        if stat.S_ISCHR(os.fstat(descriptor).st_mode):
            os.dup2(nowhere, descriptor)
    os.close(nowhere)


def _requeue() -> None:
    """Ask SLURM, where there is one, to start this job again."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or os.environ.get("SLURM_PROCID", "0") != "0":
        return
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    try:
        subprocess.run(["scontrol", "requeue", f"{array}_{task}" if array else job], check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"warning: SLURM did not requeue job {job} ({error})", file=sys.stderr)
