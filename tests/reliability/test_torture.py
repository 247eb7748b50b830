"""Interrupted runs end as uninterrupted ones do, to the last bit; `make torture` is the long form."""

from pathlib import Path

import pytest

from commands import REPOSITORY, run_command


def torture(trials: int, folder: Path) -> str:
    command = ["-m", "reliability.torture", f"trials={trials}", f"folder={folder}"]
    done = run_command(*command, folder=REPOSITORY / "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()[-1]


def test_interrupted_runs_equal_uninterrupted_ones(tmp_path: Path) -> None:
    assert "3 runs" in torture(3, tmp_path)


@pytest.mark.slow
def test_many_interrupted_runs_equal_uninterrupted_ones(tmp_path: Path) -> None:
    assert ", 0 different" in torture(54, tmp_path)
