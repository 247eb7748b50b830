"""A sweep in rows and words: summary.csv, the closing lines, and what a dry run says."""

import csv
import io
import math
import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from vae.paths import TRAIN
from vae.run.files import write_atomically
from vae.sweep.folder import STATES, SweepDirectory
from vae.sweep.grid import Job
from vae.sweep.report.comparable import Row, scored, winners


def rows(folder: SweepDirectory) -> list[Row]:
    """One row a job: `job`, `status`, every varied key, every final number, `seconds`, `attempts`, `reason`.

    Values of keys are numbers where they are all numbers. `seconds` includes what failed attempts took.
    """
    found = []
    for job in folder.jobs():
        directory = folder.job(job.name)
        record, state = directory.record(), directory.state()
        row: Row = {"job": job.name, "status": state}
        row |= {axis_name(key): _value(value) for key, value in job.values.items()}
        row |= directory.metrics() if state == "done" else {}
        row["seconds"] = record.get("seconds", row.get("seconds"))
        row |= {"attempts": record.get("attempts", 0), "reason": record.get("reason")}
        found.append(row)
    return found


def axis_name(key: str) -> str:
    """A varied key as a column is called: `trainer.x` for `+trainer.x`, `objective.beta` for `objective/beta`."""
    return key.lstrip("+").replace("/", ".")


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def axes(folder: SweepDirectory) -> list[str]:
    """The columns that vary."""
    return [axis_name(key) for key in folder.manifest()["axes"]]


def measures(table: Sequence[Row], keys: Sequence[str]) -> list[str]:
    """The columns that are final numbers: test before val before train, then the rest, `seconds` last."""
    fixed = {"job", "status", "attempts", "reason", "seconds", *keys}
    names = {name for row in table for name in row} - fixed
    order = ("test", "val", "train")
    ranked = sorted(names, key=lambda n: (order.index(n.split("/")[0]) if n.split("/")[0] in order else 9, n))
    return [*ranked, "seconds"]


def write_summary(path: Path, table: Sequence[Row], keys: Sequence[str]) -> None:
    """Write summary.csv."""
    names = ["job", "status", *keys, *measures(table, keys), "attempts", "reason"]
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(table)
    write_atomically(path, text.getvalue())


def closing_lines(folder: SweepDirectory, seconds: float, interrupted: bool) -> tuple[str, bool]:
    """What a sweep says when it ends, and whether all of its jobs are done."""
    table, manifest = rows(folder), folder.manifest()
    counts = Counter(row["status"] for row in table)
    states = ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state])
    lines = [
        f"{'Interrupted' if interrupted else 'Finished'} after {duration(seconds)}: {len(table)} jobs, {states}"
    ]
    failed = [row for row in table if row["status"] == "failed"]
    lines += [f"  failed    {row['job']}: {row['reason']}" for row in failed[:10]]
    lines += [f"  failed    and {len(failed) - 10} more, see summary.csv"] if len(failed) > 10 else []
    lines += [f"            their output is in {folder.path}/<job>/output.log"] if failed else []
    metric = manifest["metric"]
    for group, winner in winners(table, metric, scored(folder, folder.jobs())):
        of = f" of {group}" if group else ""
        lines.append(f"  best      {metric}{of} {winner[metric]:.6g}: {winner['job']}")
    lines += [f"  table     {folder.path / 'summary.csv'}", f"  report    {folder.path / 'report.html'}"]
    unfinished = len(table) - counts["done"] - counts["pruned"]
    if unfinished:
        lines.append(f"  go on     {TRAIN} {shlex.quote(f'resume={folder.path}')}")
    return "\n".join(lines), unfinished == 0


def dry_run_lines(folder: SweepDirectory, jobs: Sequence[Job]) -> str:
    """The jobs that a sweep would run: name, state and count."""
    states = folder.states(jobs)
    counts = Counter(states.values())
    return "\n".join(
        [
            *(f"{states[job.name]:<11} {job.name}" for job in jobs),
            f"{len(jobs)} jobs in {folder.path}: "
            + ", ".join(f"{counts[state]} {state}" for state in STATES if counts[state]),
        ]
    )


def duration(seconds: float) -> str:
    """Such as 9 s, 3 min, 2 h 5 min; a dash for what is unknown."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
