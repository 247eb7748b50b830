"""The report of a sweep: `python -m vae.sweep.report dir=runs/…/sweep_…`."""

import re
import sys
from html import escape
from pathlib import Path
from typing import Any

from vae.checks import ConfigError
from vae.run.files import to_json, write_atomically
from vae.sweep.folder import SweepDirectory
from vae.sweep.report.data import report_data
from vae.sweep.report.summary_csv import axes, rows, write_summary

PAGE = Path(__file__).parent / "page"


def write_report(path: str | Path) -> None:
    """Write summary.csv and report.html into a sweep's directory; both as things stand now.

    Raises:
        ConfigError: this is no sweep's directory.
    """
    folder = SweepDirectory(path)
    write_summary(folder.path / "summary.csv", rows(folder), axes(folder))
    write_atomically(folder.path / "report.html", page(report_data(folder)))


def page(data: dict[str, Any]) -> str:
    """One file of HTML that needs no other and no network: its policy forbids the browser any request."""
    from plotly.offline import get_plotlyjs

    # A browser ends a script at `</`, wherever that stands, and does not after `<!--<script`.
    text = to_json(data).replace("<", "\\u003c")
    parts = {
        "TITLE": escape(data["title"]),
        "STYLE": (PAGE / "report.css").read_text(),
        "DATA": text,
        "PLOTLY": get_plotlyjs(),
        "TABLE": (PAGE / "table.js").read_text(),
        "CHARTS": (PAGE / "charts.js").read_text(),
    }
    # All at once, so that a part in which a marker stands is left as it is.
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda marker: parts[marker[1]], (PAGE / "report.html").read_text())


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    try:
        if len(arguments) != 1 or not arguments[0].startswith("dir="):
            raise ConfigError("usage: python -m vae.sweep.report dir=<sweep directory>")
        path = Path(arguments[0].removeprefix("dir="))
        write_report(path)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(path / "report.html")
    return 0
