"""What the report shows, as plain data: the table, the means over seeds, the curves and the pictures."""

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from vae.checks import ConfigError
from vae.command.interruption import obey_signal
from vae.metric.definition import definition
from vae.page.curves import read_curves
from vae.page.page import picture
from vae.paths import TRAIN
from vae.run.trust import CONFIG_DIR, SEARCHPATH
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


class Seen(NamedTuple):
    """What the jobs have left to look at: curves and pictures of each, and which of their files are damaged."""

    curves: dict[str, dict[str, list[list[float]]]]
    pictures: dict[str, dict[str, Any]]
    damage: dict[str, str]


def look(directory: SweepDirectory, names: Sequence[str]) -> Seen:
    """Read the curves and pictures of some jobs. What cannot be read is named and left out."""
    side = round(PICTURE_SIDE * min(1.0, math.sqrt(FULL_SIZE_JOBS / max(len(names), 1))))
    seen = Seen({}, {}, {})
    for name in names:
        damage = list[str]()
        try:
            seen.curves[name] = curve(directory.path / name / "metrics.csv")
        except ConfigError as error:
            seen.curves[name] = {}
            damage.append(str(error))
        seen.pictures[name] = {}
        for kind in PICTURES:
            path = directory.path / name / "images" / f"{kind}.png"
            try:
                seen.pictures[name] |= {kind: picture(path, side)} if path.exists() else {}
            except (OSError, ValueError, SyntaxError, KeyError) as error:  # what Pillow raises of damaged files
                obey_signal(error)
                damage.append(f"{path}: a damaged picture ({' '.join(str(error).split())})")
        if damage:
            seen.damage[name] = "; ".join(damage)
    return seen


def report_data(directory: SweepDirectory, table: pd.DataFrame) -> dict[str, Any]:
    """Everything that the page needs; JSON can hold it.

    Args:
        directory: the sweep's.
        table: its results, where a job whose files are damaged is given the reason.
    """
    metric, keys = directory.manifest()["metric"], varied_columns(directory)
    names = measures(table, keys)
    jobs = {job.name: job for job in directory.jobs()}
    kinds = scored(directory, list(jobs.values()))
    winning = winners(table, metric, kinds)
    seen = look(directory, sample(list(jobs), [row["job"] for _, row in winning]))
    for job, damage in seen.damage.items():
        print(f"warning: {damage}; the report does without", file=sys.stderr)
        row = table["job"] == job
        table.loc[row, "reason"] = table.loc[row, "reason"].fillna(damage)
    every = {*names, *(name for each in seen.curves.values() for name in each)}
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
        "curves": seen.curves,
        "pictures": seen.pictures,
        "sampled": len(seen.curves) if len(seen.curves) < len(jobs) else None,
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
    """Return the entries of a row that have a value, as plain Python's."""
    return {name: getattr(value, "item", lambda v=value: v)() for name, value in row.items() if not pd.isna(value)}


def reproduce(directory: SweepDirectory, job: Job) -> str:
    """Return the command that trains one job by itself."""
    ignored = ("hydra.", "hydra/", "sweep=", "sweep.")
    shared = [a for a in directory.manifest()["constants"] if not a.lstrip("+~").startswith(ignored)]
    folders = (f"{CONFIG_DIR}=", f"{SEARCHPATH}=")
    flags = [a for a in directory.manifest().get("arguments") or () if a.startswith(folders)]
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
    """Return each logged number of a run as its steps and its values, thinned evenly to the last one."""
    found = {name: each.thinned(CURVE_POINTS) for name, each in read_curves(path).items()}
    logged = {name: each for name, each in found.items() if name.startswith(("train/", "val/"))}
    return {name: [list(each.steps), [float(f"{v:.6g}") for v in each.values]] for name, each in logged.items()}
