"""The report of a sweep: `python -m vae.sweep.report dir=runs/…/sweep_…`, or dir=last."""

import sys
from pathlib import Path

from vae.checks import ConfigError
from vae.page.page import page
from vae.run.files import check_folder, write_atomically
from vae.sweep.directory import SweepDirectory
from vae.sweep.report.data import report_data
from vae.sweep.results import results, write_summary


def write_report(path: str | Path) -> Path:
    """Write summary.csv and report.html into a sweep's directory, as things stand now; return the report's path.

    Raises:
        ConfigError: this is no sweep's directory.
    """
    directory = SweepDirectory(path)
    check_folder(directory.path)
    table = results(directory)
    data = report_data(directory, table)
    write_summary(directory, table)
    report = directory.path / "report.html"
    write_atomically(report, page(data["title"], "sweep", data))
    return report


def main(arguments: list[str]) -> int:
    """Run the command; return its exit status."""
    try:
        if len(arguments) != 1 or not arguments[0].startswith("dir="):
            raise ConfigError("usage: python -m vae.sweep.report dir=<sweep directory>")
        report = write_report(arguments[0].removeprefix("dir="))
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report)
    return 0
