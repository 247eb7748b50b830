"""What the report shows, as plain data: the table, the means over seeds, the curves and the pictures."""

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae.metric.definition import definition
from vae.page.curves import read_curves
from vae.page.page import picture
from vae.paths import TRAIN
from vae.sweep.folder import SweepDirectory
from vae.sweep.grid import Job
from vae.sweep.report.comparable import Row, scored, winners
from vae.sweep.report.summary_csv import axes, measures, rows

CURVE_POINTS = 120
"""Of a longer training curve so many points are kept."""
PICTURES = ("samples", "reconstructions")
PICTURE_SIDE = 260
"""Pixels, at most, of a picture in the report; the run directories have the full ones."""
FULL_SIZE_JOBS = 60
"""With more jobs than this, pictures get smaller so that all together stay as large."""


def report_data(folder: SweepDirectory) -> dict[str, Any]:
    """Everything that the page needs; JSON can hold it."""
    manifest, table, keys = folder.manifest(), rows(folder), axes(folder)
    names = measures(table, keys)
    metric = manifest["metric"]
    jobs = {job.name: job for job in folder.jobs()}
    kinds = scored(folder, list(jobs.values()))
    logged = {row["job"]: curve(folder.path / row["job"] / "metrics.csv") for row in table}
    every = {*names, *(name for each in logged.values() for name in each)}
    side = round(PICTURE_SIDE * min(1.0, math.sqrt(FULL_SIZE_JOBS / max(len(jobs), 1))))
    return {
        "title": folder.path.name,
        "metric": metric,
        "axes": keys,
        "measures": names,
        # Of these the numbers compare only within a group.
        "by_likelihood": sorted(name for name in every if definition(name.partition("/")[2]).of_likelihood),
        "one_set": len({kind.images for kind in kinds.values()}) <= 1,
        "rows": [
            _told(row) | ({"compares": str(kinds[row["job"]])} if row["job"] in kinds else {}) for row in table
        ],
        "seeds": means_over_seeds(table, keys, names),
        "best": [
            {
                "group": group,
                "job": row["job"],
                "value": row[metric],
                "command": reproduce(folder, jobs[row["job"]]),
            }
            for group, row in winners(table, metric, kinds)
        ],
        "curves": logged,
        "pictures": {row["job"]: pictures(folder.path / row["job"] / "images", side) for row in table},
    }


def _told(row: Row) -> Row:
    return {key: value for key, value in row.items() if value is not None}


def reproduce(folder: SweepDirectory, job: Job) -> str:
    """The command that trains one job by itself."""
    ignored = ("hydra.", "hydra/", "sweep=", "sweep.")
    shared = [a for a in folder.manifest()["constants"] if not a.startswith(ignored)]
    return " ".join([TRAIN, *(_quoted(argument) for argument in [*shared, *job.overrides()])])


def _quoted(argument: str) -> str:
    plain = all(character.isalnum() or character in "=._-+,/:%@" for character in argument)
    return argument if plain else "'" + argument.replace("'", "'\\''") + "'"


def means_over_seeds(table: Sequence[Row], keys: Sequence[str], names: Sequence[str]) -> list[Row]:
    """Mean and standard deviation (n − 1) over the jobs that differ only in `seed`; empty if it does not vary.

    Each row has the other keys, `n`, and `[mean, deviation]` for each measure (0 for a single job).
    """
    if "seed" not in keys:
        return []
    others = [key for key in keys if key != "seed"]
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in table:
        if row["status"] == "done":
            groups.setdefault(tuple(row.get(key) for key in others), []).append(row)
    return [
        dict(zip(others, values, strict=True)) | {"n": len(group)} | _statistics(group, names)
        for values, group in groups.items()
    ]


def _statistics(group: Sequence[Row], names: Sequence[str]) -> dict[str, tuple[float, float]]:
    found = {}
    for name in names:
        numbers = [row[name] for row in group if row.get(name) is not None]
        if numbers:
            deviation = statistics.stdev(numbers) if len(numbers) > 1 else 0.0
            found[name] = (statistics.fmean(numbers), deviation)
    return found


def curve(path: Path) -> dict[str, list[list[float]]]:
    """Each logged number of a run as its steps and its values, thinned evenly, with the last one kept."""
    found = {name: each.thinned(CURVE_POINTS) for name, each in read_curves(path).items()}
    logged = {name: each for name, each in found.items() if name.startswith(("train/", "val/"))}
    return {name: [list(each.steps), [float(f"{v:.6g}") for v in each.values]] for name, each in logged.items()}


def pictures(folder: Path, side: int) -> dict[str, Any]:
    """A run's final pictures, at most `side` pixels wide and high, for `vae.page.page`."""
    return {name: picture(folder / f"{name}.png", side) for name in PICTURES if (folder / f"{name}.png").exists()}
