"""A closed or full stdout ends no training."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commands import QUICK, TRAIN, metrics_of, user_environment


@pytest.mark.parametrize("redirection", ["| head -n 1 > /dev/null", "> /dev/full", ">&-", "<&- >&- 2>&-"])
def test_a_stdout_that_cannot_be_written_ends_no_training(redirection: str, tmp_path: Path) -> None:
    if "/dev/full" in redirection and not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    if any(shutil.which(program) is None for program in ("bash", "head")):
        pytest.skip("this system has no bash or no head")
    arguments = [
        sys.executable,
        TRAIN,
        *QUICK,
        "logger=csv",
        "callback.pictures=null",
        f"hydra.run.dir={tmp_path}",
    ]
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "$@" {redirection}', "bash", *arguments],
        env=user_environment(VAE_PROGRESS="on"),
        stderr=subprocess.PIPE,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr in (
        "",
        *(f"warning: stdout cannot be written ({why}); it goes on without\n" for why in WHY),
    )
    assert metrics_of(tmp_path)["epochs"] == 2
    assert "\0" not in (tmp_path / "metrics.csv").read_text()


WHY = ("Broken pipe", "No space left on device")
