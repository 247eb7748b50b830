"""A small sweep on the digits, and what is read back of it."""

import csv
from importlib.util import find_spec
from pathlib import Path

import pytest

from commands import QUICK, REPOSITORY

SMALL = [*QUICK[:-1], "logger=csv"]
GRID = ["latent_size=2,3", "likelihood.sigma=0.3,1"]
NAMES = {f"latent_size={d},likelihood.sigma={s}" for d in (2, 3) for s in (0.3, 1)}
"""The jobs of GRID."""

PROBED = f"{REPOSITORY / 'src'}:{Path(__file__).parent / 'probe'}"
"""A PYTHONPATH with which the processes that train are watched and disturbed; see probe/sitecustomize.py."""
PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "ray": "hydra_ray_launcher",
    "submitit_local": "hydra_submitit_launcher",
}


def installed(launcher: str) -> bool:
    """Whether a launcher's plugin is there."""
    return launcher in ("basic", "stacked") or find_spec(f"hydra_plugins.{PLUGINS[launcher]}") is not None


def summary_of(sweep: Path) -> dict[str, dict[str, str]]:
    """summary.csv by job, without what differs between two identical sweeps."""
    with (sweep / "summary.csv").open(newline="") as file:
        rows = {row.pop("job"): row for row in csv.DictReader(file)}
    return {job: {k: v for k, v in row.items() if k not in ("seconds", "attempts")} for job, row in rows.items()}


def same(one: dict[str, dict[str, str]], other: dict[str, dict[str, str]]) -> None:
    """Two summaries by job are equal, numbers to the rounding of a stack."""
    assert one.keys() == other.keys()
    for job, row in one.items():
        assert row.keys() == other[job].keys()
        for name, value in row.items():
            if "/" in name and value:
                assert float(other[job][name]) == pytest.approx(float(value), rel=1e-3, abs=1e-4), (job, name)


def folders_of(sweep: Path) -> set[str]:
    """The names of the jobs' folders."""
    return {path.name for path in sweep.iterdir() if path.is_dir() and not path.name.startswith(".")}
