"""The progress of a command: a moving line on a terminal, or else a new line every few seconds.

Everything that takes time is a `task`. A task may contain other tasks. The line shows where they all are, how long
it has taken and how long it will take. The environment variable VAE_PROGRESS=off turns this off.
"""

import math
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

SECONDS = 4.0
"""The seconds between two lines if there is no terminal.

Even on a busy machine, the pause between two lines is then below five seconds.
"""
FIRST = 1.0
"""The seconds until the first of these lines."""
WIDTH = 24
"""The number of characters of the bar."""
OFF = "VAE_PROGRESS"

T = TypeVar("T")
Look = Callable[[], tuple[float | None, str, str]]
"""A function () → the share that is done, if known; what is being done; the numbers beside it."""


class Task:
    """Something that takes time.

    Args:
        name: what is being done.
        total: the number of units of work, if it is known.
        look: a function to use instead of both, called each time the line is shown; it runs in another thread.
    """

    def __init__(self, name: str, total: float | None = None, look: Look | None = None):
        self.name, self.total, self.done = name, total, 0.0
        self.look = look or (lambda: (self.done / self.total if self.total else None, self.name, ""))
        self.started = time.monotonic()
        # A resumed run has done much of its work when it begins.
        self.share_before = self.look()[0] or 0.0

    def advance(self, units: float = 1) -> None:
        """Count units of work that are done."""
        self.done += units

    def seconds_left(self, share: float | None) -> float:
        """Return the time until the end, estimated from the time taken so far.

        It is infinite if it is unknown.
        """
        if share is None:
            return math.inf
        gained = share - self.share_before
        return (time.monotonic() - self.started) * (1 - share) / gained if gained > 0 else math.inf


_tasks: list[Task] = []
_display: "Display | None" = None


@contextmanager
def task(name: str, total: float | None = None, look: Look | None = None) -> Iterator[Task]:
    """Show that something is being done until the block ends, see `Task`."""
    one = begin(Task(name, total, look))
    try:
        yield one
    finally:
        end(one)


def through(items: Iterable[T], name: str, total: int) -> Iterator[T]:
    """Yield the same items, and show this as a task of `total` units."""
    with task(name, total) as one:
        for item in items:
            yield item
            one.advance()


def begin(one: Task) -> Task:
    """Begin a task that does not begin and end in one place."""
    _tasks.append(one)
    return one


def end(one: Task) -> None:
    """End a task, and all tasks inside it."""
    if one in _tasks:
        del _tasks[_tasks.index(one) :]


def advance(units: float = 1) -> None:
    """Count units of work of the innermost task, if there is one."""
    if _tasks:
        _tasks[-1].advance(units)


def say(line: str) -> None:
    """Print a line on the results so far, if progress is shown."""
    if _display is not None:
        _display.say(line)


def now() -> str | None:
    """Return the line that is shown at present, if there is one in this process."""
    display = _display
    return display.line().strip() if display is not None else None


def is_on() -> bool:
    """Return whether progress is to be shown."""
    return os.environ.get(OFF) != "off"


@contextmanager
def shown(out: Any = None) -> Iterator[None]:
    """Show the progress of the tasks inside the block.

    Args:
        out: the stream for lines if there is no terminal; stderr if not given.
    """
    global _display
    if _display is not None or not is_on():
        yield
        return
    before, _display = list(_tasks), Display(out or sys.stderr)
    try:
        with _display:
            yield
    finally:
        _display = None
        _tasks[:] = before


class Display:
    """The display, which looks at the tasks again and again in its own thread.

    Args:
        out: the stream for lines if neither stdout nor stderr is a terminal.
        seconds: the seconds between two lines.
    """

    def __init__(self, out: Any, seconds: float = SECONDS):
        self.seconds = seconds
        terminals = [stream for stream in (sys.stdout, sys.stderr) if stream.isatty()]
        self.out, self.is_terminal = (terminals[0], True) if terminals else (out, False)
        self.started = time.monotonic()
        self._began = False
        self._stop = threading.Event()

    def __enter__(self) -> "Display":
        if self.is_terminal:
            from rich.console import Console
            from rich.live import Live
            from rich.text import Text

            # Other output to this terminal appears above the line.
            on_stdout = self.out is sys.stdout
            self._live = Live(
                console=Console(file=self.out),
                get_renderable=lambda: Text(self.line(), no_wrap=True, overflow="ellipsis"),
                refresh_per_second=4,
                transient=True,
                redirect_stdout=on_stdout,
                redirect_stderr=sys.stderr.isatty(),
            )
            self._live.start()
        else:
            self._thread = threading.Thread(target=self._print_lines, daemon=True, name="progress")
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.is_terminal:
            self._live.stop()
        else:
            self._stop.set()
            self._thread.join()

    def _print_lines(self) -> None:
        # The first comes at once: the libraries may already have taken seconds before this.
        wait = min(FIRST, self.seconds)
        while not self._stop.wait(wait):
            self.say(self.line())
            wait = self.seconds

    def say(self, line: str) -> None:
        """Print a line that stays."""
        if self.is_terminal:
            self._live.console.print(line, markup=False, highlight=False, soft_wrap=True)
        else:
            print(line, file=self.out, flush=True)

    def line(self) -> str:
        """Return what is being done, how much of it is done, the time, and the numbers."""
        tasks = list(_tasks)
        if not tasks:
            doing = "finishing" if self._began else "starting"
            return self._joined(None, doing, duration(time.monotonic() - self.started), "")
        self._began = True
        shares, words, numbers = zip(*(one.look() for one in tasks), strict=True)
        share = shares[0]
        inner = next((each for each in shares[1:] if each is not None), None)
        if share is not None and inner is not None and tasks[0].total:
            share = min(share + inner / tasks[0].total, 1.0)
        outer, spent = tasks[0], duration(time.monotonic() - tasks[0].started)
        left = outer.seconds_left(share)
        ahead = f", {duration(left)} left" if math.isfinite(left) else ""
        return self._joined(share, ", ".join(words), spent + ahead, " ".join(filter(None, numbers)))

    def _joined(self, share: float | None, words: str, times: str, numbers: str) -> str:
        known = "" if share is None else f"{share:4.0%} "
        if self.is_terminal and share is not None:
            known = f"{'━' * round(share * WIDTH)}{'╌' * (WIDTH - round(share * WIDTH))} {known}"
        return f"{known}{words} ({times}){'  ' + numbers if numbers else ''}"


def duration(seconds: float) -> str:
    """Return a time such as 9 s, 3 min or 2 h 5 min, or a dash if it is unknown."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
