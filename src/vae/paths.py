"""Where the project's own files are."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "conf").is_dir()
"""Whether this is a package that was installed, and not the sources in a clone of the repository."""

ROOT = PACKAGE.parents[1]
"""Of the clone, if there is one."""

CONF = PACKAGE / "conf" if INSTALLED else ROOT / "conf"
"""conf/: at the top of the repository, inside the package once that is installed."""

TRAIN = "vae-train" if INSTALLED else "python train.py"
"""What a user types to train."""
