"""What a signal does to a run; that it loses nothing is reliability/torture.py's to show."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from vae.command.interruption import Interrupted, signals_interrupt


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's scontrol, which notes what it is asked for; the file of its notes."""
    command, notes = tmp_path / "scontrol", tmp_path / "notes"
    command.write_text(f'#!/bin/sh\necho "$@" >> {notes}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    return notes


@pytest.fixture(autouse=True)
def no_signal_is_ignored() -> Iterator[None]:
    """As in a terminal; a job that a shell started in the background inherits that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt(signum: signal.Signals) -> Interrupted:
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signum)
            time.sleep(5)
    except Interrupted as ended:
        return ended
    raise AssertionError("the signal did nothing")


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_a_signal_ends_the_run_with_its_status(name: str) -> None:
    before = [signal.getsignal(signal.Signals[n]) for n in ("SIGINT", "SIGTERM", "SIGUSR1")]
    ended = interrupt(signal.Signals[name])
    assert (ended.name, ended.code) == (name, 128 + signal.Signals[name])
    assert [signal.getsignal(signal.Signals[n]) for n in ("SIGINT", "SIGTERM", "SIGUSR1")] == before


def test_slurm_is_asked_to_start_the_job_again(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(signal.SIGTERM)
    assert not slurm.exists()
    interrupt(signal.SIGUSR1)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "16")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    interrupt(signal.SIGUSR1)
    # Once a job, whatever the number of its ranks.
    monkeypatch.setenv("SLURM_PROCID", "1")
    interrupt(signal.SIGUSR1)
    assert slurm.read_text().splitlines() == ["requeue 17", "requeue 16_3"]


def test_where_slurm_does_not_answer_the_run_ends_all_the_same(
    slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (slurm.parent / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    assert interrupt(signal.SIGUSR1).code == 128 + signal.SIGUSR1
    assert capsys.readouterr().err.startswith("warning: SLURM did not requeue job 17 (")
