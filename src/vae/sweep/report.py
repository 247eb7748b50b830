"""The report of a sweep: `python -m vae.sweep.report dir=runs/…/sweep_…`."""

from pathlib import Path

from vae.sweep.folder import SweepDirectory
from vae.sweep.summary import axes, rows, write_summary


def write_report(path: str | Path) -> None:
    """Write summary.csv and report.html into a sweep's directory."""
    folder = SweepDirectory(path)
    table, keys = rows(folder), axes(folder)
    write_summary(folder.path / "summary.csv", table, keys)
