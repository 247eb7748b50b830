"""metrics.csv as curves that a page can draw."""

import csv
import io
import math
from pathlib import Path
from typing import NamedTuple

from vae.checks import ConfigError

POINTS = 200
"""Points that are kept of a longer curve."""


class Curve(NamedTuple):
    """A logged number: the steps at which it was logged, the epochs of training by then, and its values."""

    steps: list[int]
    epochs: list[float]
    values: list[float]

    def thinned(self, points: int = POINTS) -> "Curve":
        """At most about so many points, evenly, with the last one."""
        every = math.ceil(len(self.steps) / points)
        return Curve(*([*column[:-1:every], column[-1]] for column in self))


def read_curves(path: Path) -> dict[str, Curve]:
    """Return every number of a metrics.csv from training or validation; none where there is no file."""
    rows = read_rows(path)
    per_epoch = _steps_per_epoch(rows)
    curves: dict[str, Curve] = {}
    for row in rows:
        step = int(row["step"])
        for name, text in row.items():
            if text and "/" in name and not name.startswith("test/"):
                curve = curves.setdefault(name, Curve([], [], []))
                curve.steps.append(step)
                curve.epochs.append(round(step / per_epoch, 3))
                curve.values.append(float(text))
    return curves


def read_rows(path: Path) -> list[dict[str, str]]:
    """Return the rows of a metrics.csv; none where there is no file. A row that is being written is left out.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        whole = path.read_bytes().decode().rpartition("\n")[0]
        rows = list(csv.DictReader(io.StringIO(whole, newline=""), strict=True))
        for row in rows:
            if None in row or None in row.values():
                raise ValueError("a row is longer or shorter than the first line")
            int(row["step"])
            for text in row.values():
                float(text or 0)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (ValueError, KeyError, csv.Error, OSError) as error:
        raise ConfigError(f"{path}: a damaged file ({type(error).__name__}: {error})") from error
    if not whole:
        raise ConfigError(f"{path}: a damaged file (it is empty)")
    return rows


def _steps_per_epoch(rows: list[dict[str, str]]) -> float:
    """From the first validation: its `epoch` says how many epochs had been completed before the one it ends."""
    for row in rows:
        if row.get("val/loss") and row["epoch"] and not row.get("test/loss"):
            return int(row["step"]) / (int(row["epoch"]) + 1)
    # Of a run of one epoch, to whose only row the final test was added, or of one that was never validated.
    return max((int(row["step"]) / max(int(row["epoch"]), 1) for row in rows if row["epoch"]), default=1.0) or 1.0
