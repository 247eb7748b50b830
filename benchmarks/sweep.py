"""python -m benchmarks.sweep [jobs=40] [key=value …]: what a sweep adds to the training of its jobs.

It runs the digits under `basic` in this process. Each job is one epoch of the default model, unless keys say
otherwise. It prints the time of a job beyond Trainer.fit, validate and test. It also prints what the process holds
after the first jobs and at the end: memory, open files, threads and objects. The exit status is 1 if they grow.
"""

import gc
import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

WARM_UP = 5
"""The number of jobs after which caches are full."""


class Held(NamedTuple):
    """The resources that the process holds after a job."""

    at: float
    training: float
    megabytes: float
    files: int
    threads: int
    objects: int


def measure(jobs: int, overrides: list[str], folder: str) -> list[Held]:
    """Run the sweep, and measure the process after each job."""
    from lightning import Trainer

    from vae.sweep import job
    from vae.sweep.job import give_back_memory
    from vae.train import train

    training, found = [0.0], []

    def timed(method: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            started = time.perf_counter()
            try:
                return method(*args, **kwargs)
            finally:
                training[0] += time.perf_counter() - started

        return run

    for name in ("fit", "validate", "test"):
        setattr(Trainer, name, timed(getattr(Trainer, name)))

    def look() -> None:
        give_back_memory()
        found.append(Held(time.perf_counter(), training[0], *_now()))

    common = ["trainer.max_epochs=1", "trainer.accelerator=cpu", f"hydra.sweep.dir={folder}/sweep"]
    sys.argv = ["train.py", "-m", f"seed=range({jobs})", *common, *overrides]
    with patch.object(job, "give_back_memory", look):
        train()
    return found


def _now() -> tuple[float, int, int, int]:
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    files = len(os.listdir("/proc/self/fd"))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, files, threading.active_count(), len(gc.get_objects())


def main() -> int:
    """Run the command and return its exit status."""
    jobs = [argument for argument in sys.argv[1:] if argument.startswith("jobs=")]
    overrides = [argument for argument in sys.argv[1:] if argument not in jobs]
    with tempfile.TemporaryDirectory() as folder:
        found = measure(int((jobs or ["jobs=40"])[-1].removeprefix("jobs=")), overrides, folder)
    pairs = list(itertools.pairwise(found))
    beyond = sorted((b.at - a.at) - (b.training - a.training) for a, b in pairs)
    print(f"a job beyond its training: median {statistics.median(beyond):.2f} s, longest {beyond[-1]:.2f} s")
    first, last = found[min(WARM_UP, len(found) - 1)], found[-1]
    for name in ("megabytes", "files", "threads", "objects"):
        print(
            f"{name}: {getattr(first, name):,.0f} after job {WARM_UP + 1}, {getattr(last, name):,.0f} at the end"
        )
    grew = last.files > first.files or last.threads > first.threads or last.objects > 1.5 * first.objects
    return int(grew or last.megabytes > 1.1 * first.megabytes)


if __name__ == "__main__":
    sys.exit(main())
