"""The paths of the project's own files."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
INSTALLED = (PACKAGE / "conf").is_dir()
"""Whether this is an installed package, and not the sources in a clone of the repository."""

ROOT = PACKAGE.parents[1]
"""The root of the clone, if there is one."""

CONF = PACKAGE / "conf" if INSTALLED else ROOT / "conf"
"""The folder conf/: at the top of the repository, or inside the package if that is installed."""

TRAIN = "vae-train" if INSTALLED else "python train.py"
"""The command that a user types to train."""
