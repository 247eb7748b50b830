"""What became of a sweep: a table of its jobs, summary.csv, and the last lines that the command prints."""

import re
import shlex
import sys
from collections.abc import Sequence

import pandas as pd

from vae.checks import ConfigError
from vae.paths import TRAIN
from vae.progress import duration
from vae.run.files import write_atomically
from vae.run.saved_config import read_evaluations
from vae.sweep.comparable import scored, winners
from vae.sweep.directory import JobDirectory, SweepDirectory
from vae.sweep.status_line import counted

SPLITS = ("test", "val", "train")


def results(directory: SweepDirectory) -> pd.DataFrame:
    """Return one row a job: `job`, `status`, every varied key, every final number, `seconds`, `attempts`,
    `reason`.

    Values of keys are numbers where they are all numbers. A job that is not done has no final numbers; of others
    those of `vae.evaluate` are among them, as `evaluation/nll`. `seconds` includes what failed attempts took.
    """
    rows = []
    for job in directory.jobs():
        folder = directory.job(job.name)
        record, state = folder.record(), folder.state()
        metrics = {**folder.metrics(), **_evaluations(folder)} if state == "done" else {}
        values = {axis_name(key): value for key, value in job.values.items()}
        row = {"job": job.name, "status": state, **values, **metrics}
        row["seconds"] = record.get("seconds", metrics.get("seconds"))
        reason = record.get("reason") or folder.damage()
        rows.append(row | {"attempts": record.get("attempts", 0), "reason": reason})
    keys = varied_columns(directory)
    first, last = ["job", "status", *keys], ["seconds", "attempts", "reason"]
    table = pd.DataFrame(rows, columns=list(dict.fromkeys([*first, *(name for row in rows for name in row)])))
    keys_as_numbers(table, keys)
    final = sorted(set(table.columns) - {*first, *last}, key=_split_then_name)
    return table.reindex(columns=[*first, *final, *last]).convert_dtypes()


def _evaluations(folder: JobDirectory) -> dict[str, float]:
    try:
        return read_evaluations(folder.path)
    except ConfigError as error:
        print(f"warning: {error}; the summary does without", file=sys.stderr)
        return {}


def keys_as_numbers(table: pd.DataFrame, keys: Sequence[str]) -> None:
    """Make the values of keys numbers, in place, where all of a key are."""
    for key in keys:
        numbers = pd.to_numeric(table[key], errors="coerce")
        if (numbers.notna() | table[key].isna()).all():
            table[key] = numbers


def axis_name(key: str) -> str:
    """Return a varied key as a column is called: `trainer.x` for `+trainer.x`, `objective.beta` for
    `objective/beta`.
    """
    return key.lstrip("+").replace("/", ".")


def varied_columns(directory: SweepDirectory) -> list[str]:
    """Return the columns that vary."""
    return [axis_name(key) for key in directory.manifest()["axes"]]


def _split_then_name(column: str) -> tuple[int, str]:
    split = column.partition("/")[0]
    return SPLITS.index(split) if split in SPLITS else len(SPLITS), column


def measures(table: pd.DataFrame, keys: Sequence[str]) -> list[str]:
    """Return the columns that are final numbers: test before val before train, then the rest, `seconds` last."""
    return [name for name in table.columns if name not in {"job", "status", "attempts", "reason", *keys}]


def write_summary(directory: SweepDirectory, table: pd.DataFrame) -> None:
    """Write summary.csv, in which no text is a formula to a spreadsheet."""
    shown = table.rename(columns=_no_formula)
    for name in shown.columns:
        if not pd.api.types.is_numeric_dtype(shown[name]):
            shown[name] = shown[name].map(_no_formula, na_action="ignore")
    write_atomically(directory.path / "summary.csv", shown.to_csv(index=False, lineterminator="\n"))


def _no_formula(cell: object) -> object:
    """Return a cell, behind an apostrophe where a spreadsheet would calculate it; numbers as they are."""
    if not isinstance(cell, str) or not cell.startswith(("=", "+", "-", "@", "\t", "\r", "|", "%")):
        return cell
    return cell if re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", cell, re.IGNORECASE) else f"'{cell}"


def closing_lines(directory: SweepDirectory, seconds: float, interrupted: bool) -> tuple[str, bool]:
    """Return what a sweep says when it ends, and whether all of its jobs are done."""
    table, metric = results(directory), directory.manifest()["metric"]
    how = "Interrupted" if interrupted else "Finished"
    lines = [f"{how} after {duration(seconds)}: {len(table)} jobs, {counted(table['status'])}"]
    failed = table[table["status"] == "failed"]
    lines += [f"  failed    {row.job}: {row.reason}" for row in failed[:10].itertuples()]
    lines += [f"  failed    and {len(failed) - 10} more, see summary.csv"] if len(failed) > 10 else []
    lines += [] if failed.empty else [f"            their output is in {directory.path}/<job>/output.log"]
    for group, winner in winners(table, metric, scored(directory, directory.jobs())):
        of = f" of {group}" if group else ""
        lines.append(f"  best      {metric}{of} {winner[metric]:.6g}: {winner['job']}")
    lines += [f"  table     {directory.path / 'summary.csv'}", f"  report    {directory.path / 'report.html'}"]
    complete = bool(table["status"].isin(["done", "pruned"]).all())
    if not complete:
        lines.append(f"  go on     {TRAIN} {shlex.quote(f'resume={directory.path}')}")
    return "\n".join(lines), complete
