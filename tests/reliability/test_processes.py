"""Several ranks: one run, the same gradients, and no rank that outlives the others."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from commands import QUICK, REPOSITORY, TRAIN, metrics_of, run_train, user_environment, weights_of
from reliability.forked_train import group_members

ONE_STEP = [*QUICK[1:], "trainer.max_epochs=1", "+trainer.limit_train_batches=1", "callback=none", "logger=csv"]
TINY = [*QUICK, "callback=none", "logger=csv"]


def ranks(count: int) -> list[str]:
    return [f"trainer.devices={count}", *(["trainer.strategy=ddp"] if count > 1 else [])]


@pytest.mark.slow
@pytest.mark.parametrize(
    "drawn",
    [
        ["likelihood=bernoulli", "data.binarize=dynamic", "objective=iwae", "objective.k=3"],
        ["likelihood=gaussian_optimal", "corruption=gaussian_noise", "objective.free_bits=0.02"],
    ],
    ids=" ".join,
)
def test_ranks_give_the_gradients_and_the_evaluation_of_one(drawn: list[str], tmp_path: Path) -> None:
    # One step of plain gradient descent, with draws of every kind.
    quiet = ["optimizer=sgd", "optimizer.momentum=0", "trainer.gradient_clip_val=null", *drawn]
    quiet += ["data.batch_size=60", "data.eval_batch_size=50"]
    # With a step so long that the rounding of the weights themselves is nothing beside it.
    for rate in (0, 0.1):
        for count in (1, 2, 3):
            run = [f"hydra.run.dir={tmp_path / f'{rate}_{count}'}", f"optimizer.lr={rate}"]
            done = run_train(*ONE_STEP, *quiet, *ranks(count), *run)
            assert done.returncode == 0, done.stderr
    start, one = (torch.cat([v.flatten() for v in weights_of(tmp_path / f"{r}_1").values()]) for r in (0, 0.1))
    for count in (2, 3):
        several = torch.cat([v.flatten() for v in weights_of(tmp_path / f"0.1_{count}").values()])
        assert (several - one).norm() <= 1e-6 * (one - start).norm()
        evaluated, expected = metrics_of(tmp_path / f"0_{count}"), metrics_of(tmp_path / "0_1")
        for name in expected:
            if name.startswith(("val/", "test/")) and expected[name] is not None:
                assert evaluated[name] == pytest.approx(expected[name], rel=1e-6), name


def started(folder: Path, *arguments: str) -> "subprocess.Popen[str]":
    """A run of two ranks that is in training, in a process group of its own."""
    command = [
        sys.executable,
        TRAIN,
        *TINY,
        *ranks(2),
        f"hydra.run.dir={folder}",
        *arguments,
    ]
    chosen = {a.partition("=")[0]: a for a in command}
    process = subprocess.Popen(
        list(chosen.values()),
        env=user_environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints" / "last.ckpt").exists() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def child_of(process: "subprocess.Popen[str]") -> int:
    return next(pid for pid in group_members(process.pid) if pid != process.pid)


@pytest.mark.slow
@pytest.mark.parametrize("victim", ["first", "second"])
def test_a_rank_that_is_killed_takes_the_run_down(victim: str, tmp_path: Path) -> None:
    with started(tmp_path / "run", "trainer.max_epochs=100000") as process:
        error = end(process, victim)
    if victim == "second":
        assert process.returncode == 1, error
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert lines == ["error: rank 1 was killed by SIGKILL (out of memory, perhaps)"], error


def end(process: "subprocess.Popen[str]", victim: str) -> str:
    """Kill a rank; what is said until no process is left, which is soon."""
    os.kill(process.pid if victim == "first" else child_of(process), signal.SIGKILL)
    began = time.monotonic()
    error = process.communicate(timeout=30)[1]
    while group_members(process.pid):
        assert time.monotonic() - began < 30
        time.sleep(0.1)
    return error


@pytest.mark.slow
def test_the_error_of_a_rank_is_said_first(tmp_path: Path) -> None:
    # Diverges in both ranks at once, and what one has seen both say.
    done = run_train(*TINY, *ranks(2), "likelihood.sigma=1e-30", f"hydra.run.dir={tmp_path / 'run'}")
    assert done.returncode == 1
    first = done.stderr.splitlines()[0]
    assert re.match(r"error: .*the training has diverged at step 1 \(epoch 1, batch 0\): the distortion", first)


@pytest.mark.slow
def test_runs_of_the_same_second_have_folders_of_their_own(tmp_path: Path) -> None:
    command = [sys.executable, TRAIN, *TINY]
    both = [
        subprocess.Popen(command, env=user_environment(), cwd=tmp_path, stdout=subprocess.DEVNULL)
        for _ in range(2)
    ]
    assert [process.wait(120) for process in both] == [0, 0]
    assert len(list(tmp_path.glob("runs/digits/*/metrics.json"))) == 2


def written(records: Path, below: Path) -> list[set[str]]:
    """The files below a folder that each process has written."""
    files = [set(file.read_text().splitlines()) for file in records.iterdir()]
    # While it is written a file has a name of its own: what counts is which file it will be.
    named = [{re.sub(r"\.[0-9a-f]{16}\.partial$", ".partial", path) for path in each} for each in files]
    return [found for each in named if (found := {path for path in each if path.startswith(f"{below}/")})]


@pytest.mark.slow
@pytest.mark.parametrize("who", ["ranks", "jobs"])
def test_no_two_processes_write_one_file(who: str, tmp_path: Path) -> None:
    records, run = tmp_path / "records", tmp_path / "run"
    records.mkdir()
    if who == "jobs":
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    joblib = ["-m", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", f"hydra.sweep.dir={run}"]
    command = joblib if who == "jobs" else [*ranks(2), f"hydra.run.dir={run}"]
    audited = f"{REPOSITORY / 'src'}:{Path(__file__).parent / 'audit'}"
    done = run_train(*command, *QUICK, PYTHONPATH=audited, AUDIT_RECORDS=str(records))
    assert done.returncode == 0, done.stdout + done.stderr
    found = written(records, run)
    assert len([path for each in found for path in each if path.endswith("last.ckpt.partial")]) == (
        2 if who == "jobs" else 1
    )
    assert sum(map(len, found)) == len(set.union(*found)), found
