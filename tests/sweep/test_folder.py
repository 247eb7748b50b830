"""The sweep's directory and the states of its jobs."""

import subprocess
import sys
from pathlib import Path

import pytest

from vae.checks import ConfigError
from vae.sweep.folder import JobDirectory, SweepDirectory, first_difference
from vae.sweep.grid import make_job


def test_a_job_goes_through_its_states(tmp_path: Path) -> None:
    job = JobDirectory(tmp_path / "a=1")
    assert job.state() == "waiting"
    with job.lock():
        job.start()
        assert job.state() == "running"
    # The lock went without an end: the process was killed.
    assert job.state() == "interrupted"
    with job.lock():
        job.start()
        job.finish("failed", "out of memory")
    assert job.state() == "failed"
    assert job.record()["attempts"] == 2
    assert job.record()["reason"] == "out of memory"
    with job.lock():
        job.start()
        (job.path / "metrics.json").write_text("{}")
    # Killed between its numbers and the record of its end.
    assert job.state() == "done"


def test_a_lock_outlives_neither_its_process_nor_kill_9(tmp_path: Path) -> None:
    job = JobDirectory(tmp_path / "a=1")
    script = (
        f"import time; from vae.sweep.folder import JobDirectory; job = JobDirectory({str(job.path)!r})\n"
        "with job.lock():\n    job.start(); print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert job.state() == "running"
        process.kill()
        process.wait()
    assert job.state() == "interrupted"


def test_a_folder_takes_more_jobs_of_its_sweep_and_none_of_another(tmp_path: Path) -> None:
    folder = SweepDirectory(tmp_path)
    identity = {"axes": ["a"], "config": {"trainer": {"max_epochs": 2}}}
    folder.claim(["a=1"], identity, [make_job({"a": "1"})])
    before = folder.manifest()["id"]
    folder.claim(["a=1,2"], identity, [make_job({"a": "1"}), make_job({"a": "2"})])
    assert [job.name for job in folder.jobs()] == ["a=1", "a=2"]
    assert folder.manifest()["id"] == before
    other = {"axes": ["a"], "config": {"trainer": {"max_epochs": 3}}}
    with pytest.raises(ConfigError, match=r"another sweep: trainer.max_epochs is 2 there and 3 here"):
        folder.claim(["a=1"], other, [])


def test_a_folder_with_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(ConfigError, match=r"not a sweep's directory .it has thesis.tex"):
        SweepDirectory(tmp_path).claim([], {}, [])


def test_two_sweeps_in_one_folder_at_once_are_refused(tmp_path: Path) -> None:
    folder = SweepDirectory(tmp_path)
    with (
        folder.lock(),
        pytest.raises(ConfigError, match=r"a sweep is at work in it .process [0-9]+ on"),
        SweepDirectory(tmp_path).lock(),
    ):
        raise AssertionError("both have the folder")
    with folder.lock():
        pass


def test_a_folder_that_cannot_be_made_is_refused() -> None:
    with pytest.raises(ConfigError, match="cannot be written"), SweepDirectory("/proc/no/sweep").lock():
        pass


def test_the_first_difference_is_named() -> None:
    assert first_difference({"a": 1}, {"a": 1}) is None
    assert (
        first_difference({"config": {"x": {"y": 1}}}, {"config": {"x": {"y": 2}}}) == "x.y is 1 there and 2 here"
    )
