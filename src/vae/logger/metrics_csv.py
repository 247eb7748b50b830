"""metrics.csv: every logged number of a run, one row per step at which something was logged."""

import csv
import io
import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

from vae.checks import ConfigError
from vae.page.curves import read_rows
from vae.run.files import write_atomically


class MetricsCSV(Logger):
    """Rows of `step`, `epoch` and every number by its logged name; what a row lacks is empty.

    Unlike Lightning's CSVLogger it continues the file of a run that is resumed, without the rows that came
    after the checkpoint and will be logged again. Rows are added whenever the trainer saves its loggers, which is
    at least once an epoch, and are on the disk then. The whole file is written anew only where a new name is
    logged, or more numbers of a step that has been written.
    """

    def __init__(self, path: str):
        super().__init__()
        self.path = Path(path)
        self.rows: list[dict[str, Any]] = []
        # Of the file: its columns, none while it is another run's or not there, and how many of the rows it has.
        self._columns: list[str] = []
        self._written = 0

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def continue_after(self, step: int, count: int) -> None:
        """Take over the rows of an interrupted run up to `step`, without the numbers of an earlier test.

        Args:
            step: of the checkpoint.
            count: the rows there were when it was written; if some are lost, that is said, and the file kept.
        """
        why = ""
        try:
            rows = read_rows(self.path)
        except ConfigError as error:
            rows, why = [], str(error)
        kept = [row for row in rows if int(row["step"]) <= step]
        self.rows = [{name: v for name, v in row.items() if v and not name.startswith("test/")} for row in kept]
        self._columns, self._written = [], 0
        if len(kept) < count:
            why = why or f"{self.path}: a damaged file"
            aside = self.path.with_name(f"{self.path.name}.damaged")
            if self.path.exists():
                self.path.replace(aside)
                why += f", put aside as {aside.name}"
            print(
                f"warning: {why}; of the {count} rows up to step {step} {count - len(kept)} are lost",
                file=sys.stderr,
            )

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Add a row, or to the last row if that is of the same step."""
        if self.rows and int(self.rows[-1]["step"]) == step:
            # The row's epoch is that in which it began: a test at its end would count one more.
            self.rows[-1] = {**self.rows[-1], **metrics, **_epoch(self.rows[-1])}
            if self._written == len(self.rows):
                self._columns = []
        else:
            self.rows.append({"step": step, **metrics})

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Nothing to do: the config of a run is in .hydra/config.yaml."""

    @rank_zero_only
    def save(self) -> None:
        """Bring the rows to the disk. A reader sees whole rows, and the beginning of one at most."""
        new = self.rows[self._written :]
        if (not new and self._columns) or not self.rows:
            return
        if self._columns and {name for row in new for name in row} <= set(self._columns):
            with self.path.open("a", newline="", encoding="utf-8") as file:
                file.write(self._text(new))
                file.flush()
                os.fsync(file.fileno())
        else:
            names = {name for row in self.rows for name in row}
            self._columns = ["step", "epoch", *sorted(names - {"step", "epoch"})]
            header = ",".join(self._columns) + "\r\n"
            write_atomically(self.path, header + self._text(self.rows))
        self._written = len(self.rows)

    def _text(self, rows: Iterable[dict[str, Any]]) -> str:
        text = io.StringIO(newline="")
        csv.DictWriter(text, self._columns).writerows(rows)
        return text.getvalue()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()


def _epoch(row: dict[str, Any]) -> dict[str, Any]:
    return {"epoch": row["epoch"]} if "epoch" in row else {}
