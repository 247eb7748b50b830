"""What a sweep says while its jobs run, where there is no terminal: a line in a few seconds."""

import contextlib
import io
import threading
from pathlib import Path

import pytest

from sweep.fake_sweep import write_fake_sweep
from vae import progress
from vae.sweep.status_line import StatusLine


@pytest.mark.parametrize("shown", [True, False])
def test_a_sweep_says_what_it_does_though_no_job_ends(
    shown: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write_fake_sweep(tmp_path / "sweep", seeds=1)
    monkeypatch.setenv(progress.OFF, "on" if shown else "off")
    monkeypatch.setattr(progress, "SECONDS", 0.0)
    enough = threading.Event()

    class Counting(io.StringIO):
        def flush(self) -> None:
            if self.getvalue().count("\n") >= 3 or not shown:
                enough.set()

    out = Counting()
    with contextlib.redirect_stdout(out):
        line = StatusLine(directory, "val/elbo", seconds=0.01)
    line.expect([])
    with progress.shown(io.StringIO()), progress.task("thinking", 4), line:
        assert enough.wait(60)
    lines = out.getvalue().splitlines()
    if shown:
        assert all(each.startswith("17/18 jobs done, 1 failed, best val/elbo ") for each in lines)
        assert lines[0].endswith("; now 0% thinking (0 s)")
    else:
        assert lines == []
