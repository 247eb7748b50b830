"""Processes of a sweep that die or are stopped, and the command that goes on."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import TRAIN, run_train, user_environment
from sweep.small_sweep import GRID, NAMES, PROBED, SMALL, folders_of, installed, summary_of
from vae.sweep.directory import SweepDirectory

LAUNCHERS = ["joblib", "ray"]
DOOMED = {name for name in NAMES if "latent_size=3" in name}


def attempts(sweep: Path) -> dict[str, int]:
    return {name: json.loads((sweep / name / "job.json").read_text())["attempts"] for name in folders_of(sweep)}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweeps") / "undisturbed"
    done = run_train("-m", *GRID, *SMALL, f"hydra.sweep.dir={path}")
    assert done.returncode == 0, done.stdout + done.stderr
    return path


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_whose_process_dies_is_started_again(launcher: str, undisturbed: Path, tmp_path: Path) -> None:
    if not installed(launcher):
        pytest.skip(f"hydra/launcher={launcher} is not installed")
    path = tmp_path / "sweep"
    command = ["-m", *GRID, *SMALL, f"hydra/launcher={launcher}", f"hydra.sweep.dir={path}"]
    once = {"PROBE_KILL": "latent_size=3", "PROBE_ONCE": str(tmp_path / "killed")}
    done = run_train(*command, PYTHONPATH=PROBED, **once)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "killed").exists()
    assert max(attempts(path).values()) == 2
    assert summary_of(path) == summary_of(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_that_kills_its_process_time_and_again_fails_and_the_others_are_done(
    launcher: str, undisturbed: Path, tmp_path: Path
) -> None:
    if not installed(launcher):
        pytest.skip(f"hydra/launcher={launcher} is not installed")
    path = tmp_path / "sweep"
    # With joblib the death of one takes the other, which may be innocent, along.
    two = ["hydra.launcher.n_jobs=2"] if launcher == "joblib" else ["+hydra.launcher.ray.init.num_cpus=2"]
    command = ["-m", *GRID, *SMALL, f"hydra/launcher={launcher}", *two, f"hydra.sweep.dir={path}"]
    died = run_train(*command, PYTHONPATH=PROBED, PROBE_KILL="latent_size=3")
    assert died.returncode == 1, died.stdout + died.stderr
    assert "4 jobs, 2 done, 2 failed" in died.stdout
    summary = summary_of(path)
    assert {name for name, row in summary.items() if row["status"] == "failed"} == DOOMED
    assert all("its process died" in summary[name]["reason"] for name in DOOMED)
    assert (path / "report.html").exists()
    again = run_train(f"resume={path}")
    assert again.returncode == 0, again.stdout + again.stderr
    assert summary_of(path) == summary_of(undisturbed)


def test_a_second_sweep_in_the_directory_of_one_at_work_is_one_line(tmp_path: Path) -> None:
    with SweepDirectory(tmp_path).claim({}):
        second = run_train("-m", *GRID, *SMALL, f"hydra.sweep.dir={tmp_path}")
    assert second.returncode == 1
    assert second.stderr.startswith(f"error: hydra.sweep.dir={tmp_path}: a sweep is at work in it (process ")
    assert second.stderr.count("\n") == 1
    assert folders_of(tmp_path) == set()


def start(*arguments: str) -> subprocess.Popen[str]:
    """Start train.py in a process group of its own, as a terminal does, with a terminal's Ctrl-C."""
    return subprocess.Popen(
        [sys.executable, TRAIN, *arguments],
        env=user_environment(PYTHONPATH=PROBED, VAE_PROGRESS="on"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_epoch(sweep: Path) -> None:
    """Wait until a job has a checkpoint."""
    deadline = time.monotonic() + 120
    while not list(sweep.glob("*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes_that_hold(folder: Path) -> list[int]:
    """Those that have a file in a folder open."""

    found = set()
    for file in Path("/proc").glob("[0-9]*/fd/*"):
        with contextlib.suppress(OSError):  # closed since
            if os.readlink(file).startswith(f"{folder}/"):
                found.add(int(file.parts[2]))
    return sorted(found)


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="processes' open files are read from /proc")
@pytest.mark.parametrize(
    ("launcher", "ranks"),
    [
        ("joblib", 1),
        ("basic", 2),
        *(pytest.param(name, 1, marks=pytest.mark.slow) for name in ("ray", "submitit_local", "stacked")),
    ],
)
def test_no_process_outlives_a_sweep_that_was_killed(launcher: str, ranks: int, tmp_path: Path) -> None:
    if not installed(launcher):
        pytest.skip(f"hydra/launcher={launcher} is not installed")
    long = ["-m", "seed=0,1", *SMALL, "trainer.max_epochs=10000", f"hydra.sweep.dir={tmp_path}"]
    with start(*long, f"trainer.devices={ranks}", f"hydra/launcher={launcher}") as process:
        wait_for_epoch(tmp_path)
        assert len(processes_that_hold(tmp_path)) > 1
        process.kill()
        process.communicate(timeout=60)
    deadline = time.monotonic() + 20
    while left := processes_that_hold(tmp_path):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    states = {job.name: SweepDirectory(tmp_path).job(job.name).state() for job in SweepDirectory(tmp_path).jobs()}
    assert "running" not in states.values()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "name", "times"),
    [("basic", "SIGINT", 2), ("basic", "SIGHUP", 1), ("basic", "SIGTERM", 1), ("joblib", "SIGTERM", 1)],
)
def test_a_signal_to_the_sweep_alone_ends_it_with_its_jobs_and_a_report(
    launcher: str, name: str, times: int, tmp_path: Path
) -> None:
    if not installed(launcher):
        pytest.skip(f"hydra/launcher={launcher} is not installed")
    long = ["-m", "seed=0,1", *SMALL, "trainer.max_epochs=10000", f"hydra.sweep.dir={tmp_path}"]
    with start(*long, f"hydra/launcher={launcher}") as process:
        wait_for_epoch(tmp_path)
        for _ in range(times):
            process.send_signal(signal.Signals[name])
            time.sleep(0.5)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.Signals[name], out + err
    assert "Traceback" not in err
    assert f"python train.py resume={tmp_path}" in out
    assert (tmp_path / "report.html").exists()
    assert {row["status"] for row in summary_of(tmp_path).values()} <= {"interrupted", "waiting"}
    assert processes_that_hold(tmp_path) == []


@pytest.mark.parametrize(
    "launcher", ["basic", *(pytest.param(name, marks=pytest.mark.slow) for name in (*LAUNCHERS, "submitit_local"))]
)
def test_ctrl_c_ends_the_whole_sweep_with_a_report_and_it_goes_on(launcher: str, tmp_path: Path) -> None:
    if not installed(launcher):
        pytest.skip(f"hydra/launcher={launcher} is not installed")
    path = tmp_path / "sweep"
    long = ["-m", "seed=0,1", *SMALL, f"hydra/launcher={launcher}", f"hydra.sweep.dir={path}"]
    with start(*long, "trainer.max_epochs=60") as process:
        wait_for_epoch(path)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, out + err
    # The processes in between that submitit starts tell of their end by themselves.
    assert launcher == "submitit_local" or "Traceback" not in err
    assert "Interrupted after" in out
    assert f"python train.py resume={path}" in out
    assert (path / "report.html").exists()
    states = {row["status"] for row in summary_of(path).values()}
    assert states <= {"interrupted", "waiting", "done"}
    assert "interrupted" in states
    again = run_train(f"resume={path}", VAE_PROGRESS="on")
    assert again.returncode == 0, again.stdout + again.stderr
    assert all((row["status"], row["epochs"]) == ("done", "60") for row in summary_of(path).values())
    # It went on where it stopped.
    logs = [(path / name / "output.log").read_text() for name in folders_of(path)]
    assert [len(re.findall("^epoch 1/60 ", log, re.MULTILINE)) for log in logs] == [1, 1]
