"""metrics.csv: every logged number of a run, one row per step at which something was logged."""

import csv
import secrets
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only


class MetricsCSV(Logger):
    """Rows of `step`, `epoch` and every number by its logged name; what a row lacks is empty.

    Unlike Lightning's CSVLogger it continues the file of a run that is resumed, without the rows that came
    after the checkpoint and will be logged again. Rows are kept in memory and the whole file is written
    anew whenever the trainer saves its loggers, which is at least once an epoch.
    """

    def __init__(self, path: str):
        super().__init__()
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = []
        self._unsaved = False

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    def continue_after(self, step: int) -> None:
        """Take over the rows of an interrupted run up to `step`."""
        if self.path.exists():
            with self.path.open(newline="", encoding="utf-8") as file:
                rows = [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]
            self.rows = [row for row in rows if int(row["step"]) <= step]

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row, or to the last row if that is of the same step."""
        if self.rows and int(self.rows[-1]["step"]) == step:
            self.rows[-1] |= metrics
        else:
            self.rows.append({"step": step, **metrics})
        self._unsaved = True

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the config of a run is in .hydra/config.yaml."""

    @rank_zero_only
    def save(self) -> None:
        """Write the file, so that a reader sees either the old or the new rows."""
        if not self._unsaved:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        names = dict.fromkeys(name for row in self.rows for name in row)
        partial = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}.partial")
        with partial.open("x", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, ["step", "epoch", *sorted(set(names) - {"step", "epoch"})])
            writer.writeheader()
            writer.writerows(self.rows)
        partial.replace(self.path)
        self._unsaved = False

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
