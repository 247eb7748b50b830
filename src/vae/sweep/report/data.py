"""What the report shows, as plain data: the table, the means over seeds, the curves and the pictures."""

import base64
import csv
import io
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vae.sweep.folder import SweepDirectory
from vae.sweep.grid import Job
from vae.sweep.report.summary_csv import Row, axes, best, measures, rows

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
    winner = best(table, manifest["metric"])
    jobs = {job.name: job for job in folder.jobs()}
    side = round(PICTURE_SIDE * min(1.0, math.sqrt(FULL_SIZE_JOBS / max(len(jobs), 1))))
    return {
        "title": folder.path.name,
        "metric": manifest["metric"],
        "axes": keys,
        "measures": names,
        "rows": [{key: value for key, value in row.items() if value is not None} for row in table],
        "seeds": means_over_seeds(table, keys, names),
        "best": winner and {"job": winner["job"], "command": reproduce(folder, jobs[winner["job"]])},
        "curves": {row["job"]: curve(folder.path / row["job"] / "metrics.csv") for row in table},
        "pictures": {row["job"]: pictures(folder.path / row["job"] / "images", side) for row in table},
    }


def reproduce(folder: SweepDirectory, job: Job) -> str:
    """The command that trains one job by itself."""
    ignored = ("hydra.", "hydra/", "sweep=", "sweep.")
    shared = [a for a in folder.manifest()["constants"] if not a.startswith(ignored)]
    return " ".join(["python train.py", *(_quoted(argument) for argument in [*shared, *job.overrides()])])


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
    if not path.exists():
        return {}
    points: dict[str, list[tuple[int, float]]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if name.startswith(("train/", "val/")) and text:
                    points.setdefault(name, []).append((int(row["step"]), _rounded(float(text))))
    return {name: _thinned(found) for name, found in points.items()}


def _thinned(points: Sequence[tuple[int, float]]) -> list[list[float]]:
    every = math.ceil(len(points) / CURVE_POINTS)
    kept = [*points[:-1:every], points[-1]]
    return [[step for step, _ in kept], [value for _, value in kept]]


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def pictures(folder: Path, side: int) -> dict[str, str]:
    """A run's final pictures, at most `side` pixels wide and high, as data URLs."""
    return {
        name: _data_url(folder / f"{name}.png", side) for name in PICTURES if (folder / f"{name}.png").exists()
    }


def _data_url(path: Path, side: int) -> str:
    from PIL import Image

    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((side, side), Image.Resampling.BOX)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=70)
    return "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
