"""The sweep's directory and the states of its jobs."""

import csv
import errno
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from commands import user_environment
from vae.checks import ConfigError
from vae.run.lock import lock_file, sign
from vae.sweep.directory import JobDirectory, SweepDirectory, first_difference
from vae.sweep.plan import make_job
from vae.sweep.results import results, write_summary


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


def test_who_waits_for_a_lock_whose_file_is_deleted_gets_a_new_one(tmp_path: Path) -> None:
    job = JobDirectory(tmp_path / "a=1")
    began, waited = threading.Event(), threading.Event()

    def wait() -> None:
        began.set()
        with job.lock():
            # No third one shares it.
            assert lock_file(job.path / ".lock", wait=False) is None
        waited.set()

    waiting = threading.Thread(target=wait)
    with job.lock():
        waiting.start()
        began.wait()
        time.sleep(0.3)
        (job.path / "metrics.json").write_text("{}")
        job.start()
    waiting.join()
    assert waited.is_set()
    assert [path.name for path in job.path.iterdir() if path.name.startswith(".")] == []


def test_a_lock_outlives_neither_its_process_nor_kill_9(tmp_path: Path) -> None:
    job = JobDirectory(tmp_path / "a=1")
    script = (
        f"import time; from vae.sweep.directory import JobDirectory; job = JobDirectory({str(job.path)!r})\n"
        "with job.lock():\n    job.start(); print('locked', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=user_environment()
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert job.state() == "running"
        process.kill()
        process.wait()
    assert job.state() == "interrupted"


IDENTITY = {"axes": ["a"], "config": {"trainer": {"max_epochs": 2}}}


def test_a_directory_takes_more_jobs_of_its_sweep_and_none_of_another(tmp_path: Path) -> None:
    directory = SweepDirectory(tmp_path)
    with directory.claim(IDENTITY):
        directory.write([make_job({"a": "1"})], identity=IDENTITY)
    before = directory.manifest()["id"]
    with directory.claim(IDENTITY):
        # However its value is typed, a job is the one that is there.
        directory.write([make_job({"a": "1.0"}), make_job({"a": "2"})], identity=IDENTITY)
    assert [job.values for job in directory.jobs()] == [{"a": "1"}, {"a": "2"}]
    assert directory.manifest()["id"] == before


def contents(path: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file below a path, with its time and content, and every folder with its time."""
    return {
        file: (file.stat().st_mtime_ns, file.read_bytes() if file.is_file() else b"")
        for file in (path, *path.rglob("*"))
    }


def of_another_sweep(path: Path) -> None:
    directory = SweepDirectory(path)
    with directory.claim({}):
        directory.write([], identity=IDENTITY | {"axes": ["b"]})


def with_a_thesis(path: Path) -> None:
    (path / "thesis.tex").touch()


def of_a_sweep_that_is_damaged(path: Path) -> None:
    (path / "sweep.json").write_text("{")


@pytest.mark.parametrize(
    ("prepare", "line"),
    [
        (of_another_sweep, "is the directory of another sweep: axes is .'b'. there and .'a'. here"),
        (with_a_thesis, "not a sweep's directory .it has thesis.tex"),
        (of_a_sweep_that_is_damaged, "sweep.json: a damaged file"),
    ],
)
def test_a_refused_directory_is_left_exactly_as_it_was(
    prepare: Callable[[Path], None], line: str, tmp_path: Path
) -> None:
    prepare(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ConfigError, match=line):
        SweepDirectory(tmp_path).check(IDENTITY)
    with pytest.raises(ConfigError, match=line), SweepDirectory(tmp_path).claim(IDENTITY):
        pass
    assert contents(tmp_path) == before


def test_what_changed_between_the_look_and_the_lock_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(path: Path, wait: bool) -> object:
        monkeypatch.undo()
        of_another_sweep(tmp_path)
        return lock_file(path, wait)

    monkeypatch.setattr("vae.sweep.directory.lock_file", meanwhile)
    with (
        pytest.raises(ConfigError, match="is the directory of another sweep"),
        SweepDirectory(tmp_path).claim(IDENTITY),
    ):
        pass


def test_two_sweeps_in_one_directory_at_once_are_refused(tmp_path: Path) -> None:
    directory = SweepDirectory(tmp_path)
    with (
        directory.claim({}),
        pytest.raises(ConfigError, match=r"a sweep is at work in it .process [0-9]+ on"),
        SweepDirectory(tmp_path).claim({}),
    ):
        raise AssertionError("both have the directory")
    with directory.claim({}):
        pass


@pytest.mark.parametrize("path", ["/proc/no/sweep", "/dev/null", "/dev/null/sweep"])
def test_a_directory_that_cannot_be_made_is_refused(path: str) -> None:
    with (
        pytest.raises(ConfigError, match=f"hydra.sweep.dir={path}: cannot be written"),
        SweepDirectory(path).claim({}),
    ):
        pass


def test_the_first_difference_is_named() -> None:
    assert first_difference({"a": 1}, {"a": 1}) is None
    assert (
        first_difference({"config": {"x": {"y": 1}}}, {"config": {"x": {"y": 2}}}) == "x.y is 1 there and 2 here"
    )


HOSTILE = [
    ({"jobs": {"../../base": {}}}, "no name of a folder here"),
    ({"jobs": {"/etc": {}}}, "no name of a folder here"),
    ({"jobs": {"..": {}}}, "no name of a folder here"),
    ({"jobs": {".hydra": {}}}, "no name of a folder here"),
    ({"jobs": {"a\x1b[31m": {}}}, "is refused"),
    ({"jobs": {"a=1": {"a": {"_target_": "os.system"}}}}, "the values of the job a=1"),
    ({"jobs": ["a"]}, "jobs is"),
    ({"id": "../x"}, "id is"),
    ({"metric": 3}, "metric is"),
    ({"metric": "\x1b]0;evil\x07"}, "is refused"),
    ({"arguments": [{"a": 1}]}, "arguments holds something else than text"),
    ({"axes": "a"}, "axes is"),
    ({"identity": []}, "identity is"),
]


@pytest.mark.parametrize(("entries", "why"), HOSTILE)
def test_somebodys_sweep_is_data(entries: dict[str, object], why: str, tmp_path: Path) -> None:
    directory = SweepDirectory(tmp_path)
    directory.write([], identity={"axes": []}, arguments=[], axes=[], metric="val/elbo")
    assert directory.jobs() == []
    manifest = json.loads(directory.manifest_file.read_text()) | entries
    directory.manifest_file.write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=why) as refused:
        directory.jobs()
    assert str(refused.value).isprintable()


@pytest.mark.parametrize(
    "record",
    [
        {"state": "\x1b[31mdone"},
        {"state": "sold"},
        {"state": ["done"]},
        {"attempts": "1"},
        {"attempts": True},
        {"reason": {"_target_": "os.system"}},
        {"reason": "\u202eevil"},
        {"seconds": "x" * 100_000},
    ],
)
def test_somebodys_record_of_a_job_is_numbers_and_short_text(record: dict[str, object], tmp_path: Path) -> None:
    job = JobDirectory(tmp_path / "a=1")
    job.path.mkdir()
    (job.path / "job.json").write_text(json.dumps(record))
    assert job.state() == "interrupted"
    reason = job.record()["reason"]
    assert "job.json" in reason
    assert reason.isprintable()


@pytest.mark.parametrize("number", ['"=HYPERLINK()"', "{}", "true", "[1]"])
def test_final_numbers_are_numbers(number: str, tmp_path: Path) -> None:
    job = JobDirectory(tmp_path)
    job.metrics_file.write_text(f'{{"test/elbo": {number}}}')
    assert job.metrics() == {}
    assert "test/elbo is no number" in str(job.damage())
    job.metrics_file.write_text('{"test/elbo": -3.5, "test/nll": null, "epochs": 2}')
    assert job.metrics() == {"test/elbo": -3.5, "test/nll": None, "epochs": 2}


def test_no_text_of_a_table_is_a_formula(tmp_path: Path) -> None:
    directory = SweepDirectory(tmp_path)
    jobs = [make_job({"note": value}) for value in ("=HYPERLINK(1)", "@x", "-1", "+cmd", "plain")]
    directory.write(jobs, identity={"axes": []}, arguments=[], axes=["note"], metric="val/elbo")
    directory.job(jobs[0].name).path.mkdir()
    with directory.job(jobs[0].name).lock():
        directory.job(jobs[0].name).start()
        directory.job(jobs[0].name).finish("failed", "=cmd|'/c calc'!A1")
    write_summary(directory, results(directory))
    cells = [cell for row in csv.reader((tmp_path / "summary.csv").read_text().splitlines()) for cell in row]
    assert {"'=HYPERLINK(1)", "'@x", "'+cmd", "-1", "plain", "'=cmd|'/c calc'!A1"} <= set(cells)
    assert not any(cell.startswith(("=", "@", "+")) for cell in cells)


def test_a_partial_file_does_not_block_a_sweep(tmp_path: Path) -> None:
    """Left by a process that was killed before anything had its name."""
    (tmp_path / "sweep.json.0123456789abcdef.partial").write_text("{")
    with SweepDirectory(tmp_path).claim(IDENTITY):
        assert not list(tmp_path.glob("*.partial"))


def test_what_a_killed_sweep_was_writing_does_not_block_it(tmp_path: Path) -> None:
    (tmp_path / "sweep.json.partial").write_text('{"jo')
    with SweepDirectory(tmp_path).claim(IDENTITY):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def damaged_jobs(path: Path) -> JobDirectory:
    job = JobDirectory(path / "a=1")
    with job.lock():
        job.start()
        (job.path / "metrics.json").write_text('{"val/elbo": -1.0}')
        job.finish("done")
    assert job.state() == "done"
    return job


def test_a_job_without_its_numbers_is_not_done(tmp_path: Path) -> None:
    job = damaged_jobs(tmp_path)
    (job.path / "metrics.json").write_text("")
    assert (job.state(), job.metrics()) == ("interrupted", {})
    assert "metrics.json: a damaged file" in str(job.damage())
    (job.path / "metrics.json").unlink()
    assert (job.state(), job.damage()) == ("interrupted", None)


def test_a_job_whose_record_is_damaged_is_what_its_numbers_say(tmp_path: Path) -> None:
    job = damaged_jobs(tmp_path)
    (job.path / "job.json").write_text("")
    assert job.state() == "done"
    assert "job.json: a damaged file" in job.record()["reason"]
    (job.path / "metrics.json").unlink()
    assert job.state() == "interrupted"
    with job.lock():
        job.start()
        assert job.record()["attempts"] == 1


def test_where_a_file_system_has_no_locks_the_folder_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("vae.run.lock.fcntl.flock", refuse)
    with (
        pytest.raises(ConfigError, match=rf"^{tmp_path}: its file system has no locks \(No locks available\)$"),
        SweepDirectory(tmp_path).claim(IDENTITY),
    ):
        pass


def test_a_long_wait_for_a_lock_says_for_what(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("vae.run.lock.PATIENCE", 0.1)
    held = lock_file(tmp_path / ".lock")
    assert held is not None
    sign(held)
    threading.Timer(0.5, held.close).start()
    taken = lock_file(tmp_path / ".lock")
    assert taken is not None
    taken.close()
    assert re.fullmatch(
        rf"waiting for process {os.getpid()} on .*, which holds {tmp_path}/\.lock\n", capsys.readouterr().err
    )
