"""A sweep as a user runs it, on the digits, in a process of its own."""

import json
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import TRAIN, call_command, metrics_of, run_train, user_environment
from sweep.small_sweep import GRID, NAMES, SMALL, folders_of, summary_of
from vae.run.directory import RunDirectory


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Four jobs that completed, and what was printed."""
    path = tmp_path_factory.mktemp("sweeps") / "sweep"
    done = run_train("-m", *GRID, *SMALL, f"hydra.sweep.dir={path}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return path, done.stdout


def test_it_leaves_a_run_directory_a_job_and_a_summary(sweep: tuple[Path, str]) -> None:
    path, said = sweep
    assert folders_of(path) == NAMES
    summary = summary_of(path)
    assert set(summary) == NAMES
    for name, row in summary.items():
        assert row["status"] == "done"
        assert row["epochs"] == "2"
        assert float(row["test/elbo"]) == metrics_of(path / name)["test/elbo"]
        assert f"latent_size={row['latent_size']},likelihood.sigma={float(row['likelihood.sigma']):g}" == name
    assert "4 jobs, 4 done" in said
    best = max(summary, key=lambda name: float(summary[name]["val/elbo"]))
    assert f": {best}\n" in said


def test_a_job_has_the_numbers_of_the_same_run_alone(sweep: tuple[Path, str], tmp_path: Path) -> None:
    name = "latent_size=3,likelihood.sigma=1"
    assert run_train(*name.split(","), *SMALL, f"hydra.run.dir={tmp_path / 'alone'}").returncode == 0
    assert {**metrics_of(tmp_path / "alone"), "seconds": 0} == {**metrics_of(sweep[0] / name), "seconds": 0}


def test_the_same_again_does_nothing_and_more_values_only_what_is_new(sweep: tuple[Path, str]) -> None:
    path, _ = sweep
    before = {name: (path / name / "metrics.json").stat().st_mtime_ns for name in NAMES}
    listed = run_train(f"resume={path}", "latent_size=2,3,4", "sweep.dry_run=true").stdout
    assert "6 jobs" in listed
    assert "4 done, 2 waiting" in listed
    assert len(re.findall("^waiting +latent_size=4,", listed, re.MULTILINE)) == 2
    more = run_train(f"resume={path}", "latent_size=2,3,4", "likelihood.sigma=1,0.3")
    assert "6 jobs, 6 done" in more.stdout
    assert {name: (path / name / "metrics.json").stat().st_mtime_ns for name in NAMES} == before
    assert folders_of(path) == NAMES | {f"latent_size=4,likelihood.sigma={s}" for s in (0.3, 1)}


@pytest.mark.parametrize("dry_run", ["true", "false"])
def test_the_folder_of_another_sweep_is_refused(dry_run: str, sweep: tuple[Path, str]) -> None:
    command = ["-m", *GRID, *SMALL, "optimizer.lr=0.1", f"hydra.sweep.dir={sweep[0]}", f"sweep.dry_run={dry_run}"]
    done = run_train(*command)
    assert done.returncode == 1
    assert "another sweep: optimizer.lr is 0.001 there and 0.1 here" in done.stderr


@pytest.mark.parametrize("more", [[], ["trainer.accelerator=gpu"]])
def test_a_folder_that_is_no_sweep_s_is_left_as_it_was(more: list[str], tmp_path: Path) -> None:
    # With a GPU asked for in vain, even an empty folder.
    if not more:
        (tmp_path / "thesis.tex").touch()
    before = tmp_path.stat().st_mtime_ns
    done = run_train("-m", *GRID, *SMALL, *more, f"hydra.sweep.dir={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert tmp_path.stat().st_mtime_ns == before


def test_a_value_typed_otherwise_is_the_job_that_is_there(sweep: tuple[Path, str]) -> None:
    otherwise = run_train(f"resume={sweep[0]}", "likelihood.sigma=3e-1,1.0", "latent_size=3", "sweep.dry_run=true")
    assert "2 jobs" in otherwise.stdout
    assert "2 done" in otherwise.stdout


def test_jobs_of_other_lengths_have_an_nll_from_as_many_draws(tmp_path: Path) -> None:
    small = [each for each in SMALL if not each.startswith(("metric.", "trainer.max_epochs"))]
    lengths = ["-m", "trainer.max_epochs=1,3", "callback=none", "hydra.sweep.dir=sweep"]
    done = call_command("vae.train", *small, *lengths, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = [tmp_path / "sweep" / f"trainer.max_epochs={epochs}" for epochs in (1, 3)]
    assert [metrics_of(run)["test/nll_k"] for run in runs] == [10, 10]


def test_listed_jobs_are_no_grid(tmp_path: Path) -> None:
    jobs = 'sweep.jobs=["likelihood.sigma=0.5","likelihood=bernoulli latent_size=4"]'
    command = ["-m", jobs, *SMALL, "callback=none", f"hydra.sweep.dir={tmp_path / 'sweep'}"]
    done = run_train(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    summary = summary_of(tmp_path / "sweep")
    assert set(summary) == {"likelihood.sigma=0.5", "latent_size=4,likelihood=bernoulli"}
    arguments = RunDirectory(tmp_path / "sweep" / "likelihood.sigma=0.5").arguments()
    assert "likelihood.sigma=0.5" in arguments
    assert not any("sweep.jobs" in each for each in arguments)
    wrong = run_train("-m", 'sweep.jobs=["latent_sze=4"]', "sweep.dry_run=true")
    assert wrong.stderr.startswith("error: latent_sze=: no such key; did you mean latent_size?")


def test_a_failed_job_is_recorded_and_retried_while_others_go_on(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    # The learning rate of the second makes the bound overflow; there are fewer images than the third validates on.
    jobs = 'sweep.jobs=["optimizer.lr=0.001","optimizer.lr=1e30","data.val_size=5000"]'
    command = ["-m", jobs, "latent_size=2", *SMALL, f"hydra.sweep.dir={path}"]
    done = run_train(*command)
    assert done.returncode == 1
    assert "3 jobs, 1 done, 2 failed" in done.stdout
    summary = summary_of(path)
    assert summary["optimizer.lr=0.001"]["status"] == "done"
    assert "diverged" in summary["optimizer.lr=1e+30"]["reason"]
    assert "data.val_size=5000" in summary["data.val_size=5000"]["reason"]
    assert "Traceback" in (path / "data.val_size=5000" / "output.log").read_text()
    again = run_train(*command)
    assert "3 jobs, 1 done, 2 failed" in again.stdout
    attempts = {name: json.loads((path / name / "job.json").read_text())["attempts"] for name in summary}
    assert attempts == {"optimizer.lr=0.001": 1, "optimizer.lr=1e+30": 2, "data.val_size=5000": 2}


def test_kill_9_and_the_same_command_give_the_summary_of_an_uninterrupted_sweep(
    sweep: tuple[Path, str], tmp_path: Path
) -> None:
    path = tmp_path / "killed"
    command = [sys.executable, TRAIN, "-m", *GRID, *SMALL, f"hydra.sweep.dir={path}"]
    with subprocess.Popen(command, env=user_environment(), stdout=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 120
        while not list(path.glob("*/job.json")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(random.uniform(0, 3))
        process.send_signal(signal.SIGKILL)
    resumed = run_train(f"resume={path}")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert summary_of(path) == {name: summary_of(sweep[0])[name] for name in NAMES}


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-m", "latent_sze=2,3"], r"error: latent_sze=2,3: no such key; did you mean latent_size=2,3\?.*"),
        (["-m", "likelihood=gaussian,gausian"], "error: likelihood=gausian: must be one of .*"),
        (["-m", "latent_size=2,2"], "error: latent_size=2,2: 2 and 2 are the same job"),
        (["sweep=latent_k_sgma"], "error: sweep=latent_k_sgma: must be one of .* did you mean latent_k_sigma.*"),
        (
            ["-m", "seed=1,2", "trainer.accelerator=gpu", "trainer.devices=9"],
            "error: trainer.devices=9: .*has 0.*",
        ),
    ],
)
def test_bad_input_is_one_line_before_any_job(arguments: list[str], line: str, tmp_path: Path) -> None:
    done = run_train(*arguments, "logger=csv", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert done.returncode == 1
    assert re.fullmatch(line, done.stderr.strip()), done.stderr
    assert not list(tmp_path.glob("sweep/*/"))


def test_a_thousand_jobs_are_listed(tmp_path: Path) -> None:
    done = run_train("-m", "seed=range(1000)", "sweep.dry_run=true", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert "1000 jobs in " in done.stdout
    assert not (tmp_path / "sweep").exists()
