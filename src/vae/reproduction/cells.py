"""The runs of a table: trained as one sweep, then measured once each."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from vae.command.override import override
from vae.reproduction.table import Table
from vae.run.files import read_json, write_atomically
from vae.sweep.directory import JobDirectory, SweepDirectory

EVALUATED = "evaluated.json"


def train_cells(table: Table, seeds: list[int], folder: Path, further: Sequence[str]) -> int:
    """Train the cells that are not done yet, with train.py, and return its exit status."""
    jobs = ",".join(f'"{job}"' for job in table.jobs(seeds))
    command = [
        *(sys.executable, "-m", "vae.train", "-m"),
        *(f"sweep.jobs=[{jobs}]", override("hydra.sweep.dir", folder.absolute()), f"name={table.stem}"),
        *(*table.train, *further),
    ]
    return run_program(command)


def run_program(command: Sequence[str]) -> int:
    """Run a command and return its exit status."""
    return subprocess.run(command, check=False).returncode


def done_jobs(folder: Path) -> list[JobDirectory]:
    """Return the runs that completed."""
    sweep = SweepDirectory(folder)
    return [job for each in sweep.jobs() if (job := sweep.job(each.name)).state() == "done"]


def evaluate_cells(table: Table, folder: Path, further: Sequence[str]) -> list[str]:
    """Measure each completed run on the test images, once, with vae.evaluate.

    Return the names of the runs whose evaluation failed.
    """
    arguments = [*table.evaluate, *further]
    if table.features:
        weights = folder / ".weights"
        arguments.append(override("paths.weights", weights.absolute()))
        if not any(weights.glob("features_*.pt")):
            features = [*table.features, override("paths.weights", weights.absolute())]
            if status := run_program([sys.executable, "-m", "vae.features", *features]):
                raise SystemExit(status)
    failed = []
    for job in done_jobs(folder):
        if (
            read_json(job.path / EVALUATED) == {"arguments": arguments}
            and (job.path / "evaluation.json").is_file()
        ):
            continue
        command = [sys.executable, "-m", "vae.evaluate", f"run={job.path}", *arguments]
        if run_program(command):
            failed.append(job.name)
        else:
            write_atomically(job.path / EVALUATED, json.dumps({"arguments": arguments}) + "\n")
    return failed
