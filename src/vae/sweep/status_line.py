"""The live line of a sweep."""

import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TextIO

from vae import progress
from vae.metric.definition import Scored
from vae.progress import duration
from vae.sweep.comparable import may_differ, scored_by
from vae.sweep.directory import ENDED, STATES, State, SweepDirectory
from vae.sweep.plan import Job


class StatusLine:
    """Jobs done, running and failed, the best so far, and the time left; read from the jobs' own files.

    So it is the same for every launcher, on this machine or others. What the present job is doing is added
    where it is in this process. On a terminal it is one line that changes; elsewhere a new line each time that a
    job has ended, and after a few seconds without one.

    Args:
        directory: the sweep's.
        metric: the number that is to be large.
        seconds: between two looks; more if a look takes long.
    """

    def __init__(self, directory: SweepDirectory, metric: str, seconds: float = 1.0):
        self.directory, self.metric, self.seconds = directory, metric, seconds
        self._out: TextIO = sys.stdout  # jobs in this process redirect sys.stdout
        self._states: dict[str, State] = {}
        self._already = self._printed = 0
        self._best: tuple[float, str] | None = None
        # Where they are several there is no best: their bounds do not compare.
        self._kinds: set[Scored | None] = set()
        self._started = self._said = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def expect(self, jobs: Sequence[Job]) -> None:
        """Count these jobs, about to be launched, and those of the sweep that have ended before."""
        known = [job.name for job in self.directory.jobs()]
        launched = {job.name for job in jobs}
        self._states |= {name: self.directory.job(name).state() for name in known if name not in self._states}
        self._states |= dict.fromkeys(launched, "waiting")
        self._already = sum(state in ENDED for state in self._states.values())
        self._printed = self._already
        for name, state in self._states.items():
            self._note_best(name, state)

    def __enter__(self) -> "StatusLine":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._look()
        if self._out.isatty():
            self._out.write("\r\033[K")

    def _watch(self) -> None:
        wait = self.seconds
        while not self._stop.wait(wait):
            began = time.monotonic()
            self._look()
            wait = max(self.seconds, 20 * (time.monotonic() - began))

    def _look(self) -> None:
        for name, state in list(self._states.items()):
            if state not in ENDED:
                now = self.directory.job(name).state()
                self._states[name] = now
                self._note_best(name, now)
        ended = sum(state in ENDED for state in self._states.values())
        due = progress.is_on() and time.monotonic() - self._said > progress.SECONDS - self.seconds
        if self._out.isatty():
            self._out.write(f"\r\033[K{self.line()[: shutil.get_terminal_size().columns - 1]}")
        elif ended > self._printed or (due and not self._stop.is_set()):
            self._out.write(self.line() + "\n")
            self._said = time.monotonic()
        self._printed = ended
        self._out.flush()

    def _note_best(self, name: str, state: State) -> None:
        value = self.directory.job(name).metrics().get(self.metric) if state == "done" else None
        if value is not None and may_differ(self.directory.manifest()["axes"]):
            self._kinds.add(scored_by(self.directory.path / name))
        if value is not None and (self._best is None or value > self._best[0]):
            self._best = (value, name)

    def line(self) -> str:
        """Return the line as it is now."""
        counts: Counter[str] = Counter(self._states.values())
        ended = sum(counts[state] for state in ENDED)
        since = ended - self._already
        elapsed = time.monotonic() - self._started
        left = elapsed / since * (len(self._states) - ended) if since else float("nan")
        parts = [f"{counts['done']}/{len(self._states)} jobs done"]
        parts += [f"{counts[state]} {state}" for state in ("running", "failed", "pruned") if counts[state]]
        if self._best and len(self._kinds) < 2:
            parts.append(f"best {self.metric} {self._best[0]:.4g} ({self._best[1]})")
        times = f"{duration(elapsed)}, {duration(left)} left" if since else duration(elapsed)
        now = progress.now()
        return f"{', '.join(parts)} ({times})" + (f"; now {now}" if now else "")


def counted(states: Iterable[str]) -> str:
    """Such as `4 done, 2 waiting`."""
    counts = Counter(states)
    return ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
