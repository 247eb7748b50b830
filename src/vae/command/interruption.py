"""Signals that ask a run to end: it ends at once, and says how to go on."""

import math
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP")
"""Ctrl-C; what schedulers and spot machines send before they kill; what SLURM sends with `--signal=USR1@…`; the
terminal was closed."""

GRACE = 5.0
"""Seconds for which further signals are ignored while the run ends."""


class Interrupted(SystemExit):
    """A signal ended the run. The exit status is 128 + the signal's number, as shells have it.

    Args:
        signum: the signal.
        swallowed: called if it is let go of before somebody has obeyed it.
    """

    def __init__(self, signum: int, swallowed: Callable[[], None] = lambda: None):
        self.status = 128 + signum
        super().__init__(self.status)
        self.name = signal.Signals(signum).name
        self.obeyed = False
        self.is_known = False
        """Whether what it is raised through has been told of it, and may go on."""
        self._said = False
        self._swallowed = swallowed

    def say(self, what_now: str) -> None:
        """Print, once, which signal it was and what is left; of several ranks, the first does."""
        is_first = all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "SLURM_PROCID"))
        if is_first and not self._said:
            print(f"{self.name}: stopped; {what_now}", file=sys.stderr)
        self.obeyed = self._said = True

    def __del__(self) -> None:
        if not self.obeyed:
            self._swallowed()


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """Inside, the signals of `SIGNALS` raise `Interrupted` wherever the main thread is.

    A run needs no time to save itself: its last checkpoint is whole at any moment, and what came after it is
    repeated to the last bit. Signals that something else handles already, such as a launcher that requeues its
    own jobs, are left to it. Where a finalizer or a library swallows what is raised, or makes an error of its own
    of it, it is raised once more.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    free = (signal.SIG_DFL, signal.default_int_handler)
    mine = [signal.Signals[name] for name in SIGNALS if signal.getsignal(signal.Signals[name]) in free]
    if mine and signal.getsignal(signal.SIGALRM) == signal.SIG_DFL:
        mine.append(signal.SIGALRM)  # for those that are raised again
    outer, show = _Handler.current, sys.unraisablehook
    handler = _Handler.current = _Handler() if mine or outer is None else outer
    before = {signum: signal.signal(signum, handler) for signum in mine}
    if mine:
        sys.unraisablehook = lambda it: None if isinstance(it.exc_value, Interrupted) else show(it)
    try:
        yield
        if handler.is_swallowed:
            raise handler.interrupted()
    except Exception as error:
        # OmegaConf, for one, makes an error of its own of whatever is raised within it.
        if (behind := handler.behind()) is None:
            raise
        raise behind from error
    finally:
        if signal.SIGALRM in mine:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for signum, earlier in before.items():
            signal.signal(signum, earlier)
        if mine:
            sys.unraisablehook = show
            if (raised := handler.behind()) is not None:
                raised.obeyed = True
        _Handler.current = outer


@contextmanager
def interrupted_in_one_line() -> Iterator[None]:
    """Inside, the same, where nothing has been saved yet: the signal is printed, and ends the process."""
    try:
        with signals_interrupt():
            yield
    except Interrupted as signal:
        signal.say("nothing was saved")
        raise


def obey_signal(error: Exception) -> None:
    """Raise the signal that a library has made this error of, if it has.

    For those who go on after the error: what is raised while Pillow calls back, say, becomes an OSError.
    """
    behind = None if _Handler.current is None else _Handler.current.behind()
    if behind is not None and not behind.is_known:
        raise behind from error


class _Handler:
    """Raises at a signal; those that follow within a few seconds must not disturb the ending."""

    current: "_Handler | None" = None

    def __init__(self) -> None:
        self.last: weakref.ref[Interrupted] | None = None
        """What was raised, for as long as it or what a library has made of it is on its way."""
        self.raised = -math.inf
        self.signum = 0
        self.is_swallowed = False

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        if self.is_swallowed:
            raise self.interrupted()
        if time.monotonic() - self.raised < GRACE:
            return
        self.raised, self.signum = time.monotonic(), signum
        name = signal.Signals(signum).name
        if name == "SIGUSR1":
            _requeue()
        if name == "SIGHUP":
            _let_go_of_the_terminal()
        raise self.interrupted()  # in no variable of this frame, which its traceback would keep alive

    def interrupted(self) -> Interrupted:
        """Return what the last signal raises."""
        self.is_swallowed = False
        interrupted = Interrupted(self.signum, self._swallowed)
        self.last = weakref.ref(interrupted)
        return interrupted

    def behind(self) -> Interrupted | None:
        """Return the signal that has come, if there was one and nobody has obeyed it."""
        if self.is_swallowed:
            return self.interrupted()
        raised = None if self.last is None else self.last()
        return None if raised is None or raised.obeyed else raised

    def _swallowed(self) -> None:
        self.is_swallowed = True
        # Not at once: what has swallowed it, such as a finalizer, may not be over.
        if signal.getsignal(signal.SIGALRM) is self:
            signal.setitimer(signal.ITIMER_REAL, 0.02)


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
