"""The time of a sweep of eight jobs against that of the eight commands one after the other.

Each process has one thread.
"""

import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[1]
JOBS, PROCESSES = 8, 2
COMMON = ("trainer.accelerator=cpu", "trainer.max_epochs=10")
"""The overrides of every job: the default run of the digits, but with ten epochs."""


def seconds(*arguments: str) -> float:
    """Return the seconds of `python train.py` with these arguments."""
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "train.py", *COMMON, *arguments]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, env=environment)
    return time.perf_counter() - started


def in_turn(folder: str) -> dict[str, float]:
    """Measure each way once."""
    sweep = ("-m", f"seed=range({JOBS})")
    found = {
        "commands": sum(seconds(f"seed={job}", f"hydra.run.dir={folder}/{job}") for job in range(JOBS)),
        "basic": seconds(*sweep, f"hydra.sweep.dir={folder}/basic"),
    }
    if find_spec("hydra_plugins.hydra_joblib_launcher"):
        launcher = ("hydra/launcher=joblib", f"hydra.launcher.n_jobs={PROCESSES}")
        found["joblib"] = seconds(*sweep, *launcher, f"hydra.sweep.dir={folder}/joblib")
    return found


def measure(turns: int) -> dict[str, Any]:
    """Return the medians over the turns, and the medians of the ratios within them."""
    found = []
    for _ in range(turns):
        with tempfile.TemporaryDirectory() as folder:
            found.append(in_turn(folder))
    return {
        "turns": turns,
        "seconds": {way: median(turn[way] for turn in found) for way in found[0]},
        "commands_over": {way: median(turn["commands"] / turn[way] for turn in found) for way in found[0]},
    }
