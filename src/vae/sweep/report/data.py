"""What the report shows, as plain data: the table, the means over seeds, the curves and the pictures."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vae.metric.definition import definition
from vae.page.curves import read_curves
from vae.page.page import picture
from vae.paths import TRAIN
from vae.run.saved_config import CONFIG_DIR
from vae.sweep.comparable import scored, winners
from vae.sweep.directory import SweepDirectory
from vae.sweep.plan import Job
from vae.sweep.results import measures, varied_columns

CURVE_POINTS = 120
"""Of a longer training curve so many points are kept."""
PICTURES = ("samples", "reconstructions")
PICTURE_SIDE = 260
"""Pixels, at most, of a picture in the report; the run directories have the full ones."""
SHOWN_JOBS = 300
"""Of more jobs than this, curves and pictures are shown of so many: the best, and others evenly spread."""
FULL_SIZE_JOBS = 60
"""With more jobs than this, pictures get smaller so that all together stay as large."""


def report_data(directory: SweepDirectory, table: pd.DataFrame) -> dict[str, Any]:
    """Everything that the page needs; JSON can hold it.

    Args:
        directory: the sweep's.
        table: its results.
    """
    metric, keys = directory.manifest()["metric"], varied_columns(directory)
    names = measures(table, keys)
    jobs = {job.name: job for job in directory.jobs()}
    kinds = scored(directory, list(jobs.values()))
    winning = winners(table, metric, kinds)
    shown = sample(list(jobs), [row["job"] for _, row in winning])
    logged = {name: curve(directory.path / name / "metrics.csv") for name in shown}
    every = {*names, *(name for each in logged.values() for name in each)}
    side = round(PICTURE_SIDE * min(1.0, math.sqrt(FULL_SIZE_JOBS / max(len(shown), 1))))
    return {
        "title": directory.path.name,
        "metric": metric,
        "axes": keys,
        "measures": names,
        # Of these the numbers compare only within a group.
        "by_likelihood": sorted(name for name in every if definition(name.partition("/")[2]).of_likelihood),
        "one_set": len({kind.images for kind in kinds.values()}) <= 1,
        "rows": [
            plain(row) | ({"compares": str(kinds[row["job"]])} if row["job"] in kinds else {})
            for row in table.to_dict("records")
        ],
        "seeds": means_over_seeds(table, keys, names),
        "best": [
            {
                "group": group,
                "job": row["job"],
                "value": float(row[metric]),
                "command": reproduce(directory, jobs[row["job"]]),
            }
            for group, row in winning
        ],
        "curves": logged,
        "pictures": {name: pictures(directory.path / name / "images", side) for name in shown},
        "sampled": len(shown) if len(shown) < len(jobs) else None,
    }


def sample(names: Sequence[str], always: Sequence[str]) -> list[str]:
    """At most `SHOWN_JOBS` of the names in their order: these always, and others at equal distances."""
    if len(names) <= SHOWN_JOBS:
        return list(names)
    first = set(always[:SHOWN_JOBS])
    others = [name for name in names if name not in first]
    room = SHOWN_JOBS - len(first)
    chosen = first | {others[place * len(others) // room] for place in range(room)}
    return [name for name in names if name in chosen]


def plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """The entries of a row that have a value, as plain Python's."""
    return {name: getattr(value, "item", lambda v=value: v)() for name, value in row.items() if not pd.isna(value)}


def reproduce(directory: SweepDirectory, job: Job) -> str:
    """The command that trains one job by itself."""
    ignored = ("hydra.", "hydra/", "sweep=", "sweep.")
    shared = [a for a in directory.manifest()["constants"] if not a.lstrip("+~").startswith(ignored)]
    flags = [a for a in directory.manifest().get("arguments") or () if a.startswith(f"{CONFIG_DIR}=")]
    return " ".join([TRAIN, *(_quoted(argument) for argument in [*flags, *shared, *job.overrides()])])


def _quoted(argument: str) -> str:
    plain = all(character.isalnum() or character in "=._-+,/:%@" for character in argument)
    return argument if plain else "'" + argument.replace("'", "'\\''") + "'"


def means_over_seeds(table: pd.DataFrame, keys: Sequence[str], names: Sequence[str]) -> list[dict[str, Any]]:
    """Mean and standard deviation (n − 1) over the jobs that differ only in `seed`; empty if it does not vary.

    Each row has the other keys, `n`, and `[mean, deviation]` for each measure (0 for a single job).
    """
    if "seed" not in keys:
        return []
    others = [key for key in keys if key != "seed"]
    done = table[table["status"] == "done"]
    # Where nothing but the seed varies there is one group.
    groups = done.groupby(others, sort=False, dropna=False) if others else [((), done)]
    rows = []
    for values, group in groups:
        row = plain(dict(zip(others, values, strict=True))) | {"n": len(group)}
        mean, deviation = group[list(names)].mean(), group[list(names)].std().fillna(0.0)
        rows.append(row | {name: (float(mean[name]), float(deviation[name])) for name in mean.dropna().index})
    return rows


def curve(path: Path) -> dict[str, list[list[float]]]:
    """Each logged number of a run as its steps and its values, thinned evenly, with the last one kept."""
    found = {name: each.thinned(CURVE_POINTS) for name, each in read_curves(path).items()}
    logged = {name: each for name, each in found.items() if name.startswith(("train/", "val/"))}
    return {name: [list(each.steps), [float(f"{v:.6g}") for v in each.values]] for name, each in logged.items()}


def pictures(folder: Path, side: int) -> dict[str, Any]:
    """A run's final pictures, at most `side` pixels wide and high, for `vae.page.page`."""
    return {name: picture(folder / f"{name}.png", side) for name in PICTURES if (folder / f"{name}.png").exists()}
