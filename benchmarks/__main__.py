"""make bench: measure, keep the results in benchmarks/results/*.json, and render them into docs/performance.md.

make bench                              # all
make bench ARGS="mlp_128 --turns 9"     # some: a workload of benchmarks/workload.py, likelihood, growth, …
make bench ARGS=--render                # only write the tables again
"""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    data_wait,
    eight_jobs,
    growth,
    likelihood,
    memory,
    own_time,
    precision,
    stacked,
    startup,
    training,
)  # fmt: skip
from benchmarks.tables import RESULTS, render
from benchmarks.workload import WORKLOADS

PACKAGES = ("torch", "lightning", "torchvision", "hydra-core", "wandb")


def circumstances() -> dict[str, Any]:
    """Return the machine, its load, the versions and the commit of a measurement."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {package: version(package) for package in PACKAGES},
        "commit": commit.stdout.strip(),
    }


def measure_likelihood() -> dict[str, Any]:
    """Measure the time of the NLL, and its peak memory."""
    peaks = {f"{images} images, k={k}": peak for (images, k), peak in likelihood.peak_memory().items()}
    return {**likelihood.measure(), "peak_mebibytes": peaks}


def main() -> None:
    """Measure the requested lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("line", nargs="*", help="what to measure; all if none is named")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--render", action="store_true", help="measure nothing")
    arguments = parser.parse_args()
    lines: dict[str, Callable[[], dict[str, Any]]] = {
        name: lambda name=name: training.measure(name, arguments.turns, arguments.threads)  # type: ignore[misc]
        for name in WORKLOADS
    }
    lines |= {
        "own_time": lambda: own_time.measure(arguments.turns),
        "data_wait": lambda: data_wait.measure(arguments.turns),
        "likelihood": measure_likelihood,
        "memory": memory.measure,
        "startup": lambda: startup.measure(arguments.turns),
        "eight_jobs": lambda: eight_jobs.measure(min(arguments.turns, 2)),
        "stacked": lambda: stacked.measure(arguments.turns),
        "precision": precision.measure,
        "growth": growth.measure,
    }
    if unknown := set(arguments.line) - set(lines):
        parser.error(f"{', '.join(sorted(unknown))}: must be of {', '.join(lines)}")
    for name in [] if arguments.render else arguments.line or lines:
        found = {**circumstances(), "found": lines[name]()}
        print(name, json.dumps(found["found"]), flush=True)
        Path(RESULTS, f"{name}.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    render()


if __name__ == "__main__":
    main()
