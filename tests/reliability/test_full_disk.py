"""A disk that is full ends a run in one line, and costs it nothing."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from commands import QUICK, TRAIN, run_train, timeless, user_environment


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_line_and_it_goes_on(tmp_path: Path) -> None:
    run, whole = tmp_path / "run", tmp_path / "whole"
    assert run_train(*QUICK, "logger=csv", "trainer.max_epochs=1", f"hydra.run.dir={run}").returncode == 0
    last = run / "checkpoints" / "last.ckpt"
    before = last.read_bytes()

    def little_space() -> None:
        """No file may be as long as the next checkpoint."""
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) - 100, len(before) - 100))

    full = subprocess.run(
        [sys.executable, TRAIN, f"resume={run}", "trainer.max_epochs=3"],
        preexec_fn=little_space,
        env=user_environment(),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert full.returncode == 1
    page, error = full.stderr.splitlines()
    assert page == f"warning: {run}/run.html: cannot be written (File too large)"
    assert error.startswith(f"error: {run}/checkpoints/")
    assert error.endswith(f"which resume={run} goes on")
    assert last.read_bytes() == before
    again = run_train(f"resume={run}", "trainer.max_epochs=3")
    assert again.returncode == 0, again.stderr
    assert run_train(*QUICK, "logger=csv", "trainer.max_epochs=3", f"hydra.run.dir={whole}").returncode == 0
    assert timeless(run) == timeless(whole)
