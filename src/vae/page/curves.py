"""metrics.csv as curves that a page can draw."""

import csv
import math
from pathlib import Path
from typing import NamedTuple

POINTS = 200
"""Points that are kept of a longer curve."""


class Curve(NamedTuple):
    """A logged number: the steps at which it was logged, the epochs completed by then, and its values."""

    steps: list[int]
    epochs: list[int]
    values: list[float]

    def thinned(self, points: int = POINTS) -> "Curve":
        """At most about so many points, evenly, with the last one."""
        every = math.ceil(len(self.steps) / points)
        return Curve(*([*column[:-1:every], column[-1]] for column in self))


def read_curves(path: Path) -> dict[str, Curve]:
    """Every number of a metrics.csv that was logged in training or validation; none where there is no file."""
    if not path.exists():
        return {}
    curves: dict[str, Curve] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            step, epoch = int(row.pop("step")), int(row.pop("epoch") or 0)
            # What is logged at the end of an epoch counts that epoch only if the final test was added to the row.
            completed = epoch if any(row[name] for name in row if name.startswith("test/")) else epoch + 1
            for name, text in row.items():
                if text and not name.startswith("test/"):
                    curve = curves.setdefault(name, Curve([], [], []))
                    curve.steps.append(step)
                    curve.epochs.append(completed)
                    curve.values.append(float(text))
    return curves
