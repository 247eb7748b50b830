"""Where the project's own files are."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parents[1]
"""Of the repository; of an installed package it means nothing."""

CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else ROOT / "conf"
"""conf/: at the top of the repository, inside the package once that is installed."""
