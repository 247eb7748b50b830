"""`vae.evaluate sweep=…`: all jobs of a sweep, once each, in its summary, its report and the table."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vae
from commands import QUICK, call_command, run_command
from sweep.small_sweep import installed, summary_of
from vae.evaluation import cost
from vae.run.checkpoint import SealedCheckpoints, read_checkpoint
from vae.sweep.evaluation import sweep_arguments

JOBS = ("latent_size=2", "latent_size=3")
CHEAP = ["k=5", "metric=default", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a sweep")
    given = ["trainer.max_epochs=1", *QUICK[1:-1], "latent_size=2,3", "logger=csv", "callback=none"]
    done = call_command("vae.train", "-m", *given, "hydra.sweep.dir=sweep", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "sweep"


@pytest.fixture(autouse=True)
def _speed_is_not_measured_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "SECONDS", 0.01)


def evaluate(sweep: Path, *arguments: str) -> str:
    """Evaluate all jobs; the first line that is printed, without the time."""
    done = call_command("vae.evaluate", f"sweep={sweep}", *CHEAP, *arguments, folder=sweep.parent)
    assert (done.returncode, done.stderr) == (0, "")
    return re.sub(r" in [^,\n]*", "", done.stdout.splitlines()[0])


def metrics(sweep: Path, job: str) -> dict[str, float]:
    return json.loads((sweep / job / "evaluation.json").read_text())["metrics"]


@contextmanager
def damaged(job: Path) -> Iterator[Path]:
    """Inside, the end of a job's best checkpoint is missing."""
    checkpoint = job / "checkpoints" / "best.ckpt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-60])
    try:
        yield checkpoint
    finally:
        checkpoint.write_bytes(whole)


def test_each_job_is_evaluated_once_and_stands_in_summary_report_and_table(sweep: Path) -> None:
    assert evaluate(sweep) == "Evaluated 2 jobs"
    first = {job: metrics(sweep, job) for job in JOBS}
    for job, row in summary_of(sweep).items():
        assert float(row["evaluation/nll"]) == first[job]["test/nll"]
        assert float(row["evaluation/nll_k"]) == 5
    assert '"evaluation/nll"' in (sweep / "report.html").read_text()
    assert dict(vae.table(sweep)["evaluation/nll"]) == {n: first[job]["test/nll"] for n, job in enumerate(JOBS)}
    # By itself a run has the same numbers, and then they are those that the sweep asks for, too.
    (sweep / JOBS[0] / "evaluation.json").unlink()
    done = call_command("vae.evaluate", f"run={sweep / JOBS[0]}", *CHEAP, folder=sweep.parent)
    assert done.returncode == 0, done.stderr
    assert metrics(sweep, JOBS[0]) == first[JOBS[0]]
    assert evaluate(sweep) == "Evaluated 0 jobs, 2 before"
    (sweep / JOBS[1] / "evaluation.json").write_text("{")
    assert evaluate(sweep) == "Evaluated 1 jobs, 1 before"
    assert evaluate(sweep, "split=val") == "Evaluated 2 jobs"
    assert "evaluation_val/nll" in summary_of(sweep)[JOBS[0]]


@pytest.mark.slow
def test_other_weights_and_other_draws_are_evaluated_anew(sweep: Path) -> None:
    evaluate(sweep)
    before = metrics(sweep, JOBS[0])
    assert evaluate(sweep, "k=6") == "Evaluated 2 jobs"
    assert metrics(sweep, JOBS[0])["test/nll_k"] == 6
    assert evaluate(sweep) == "Evaluated 2 jobs"
    assert metrics(sweep, JOBS[0]) == before
    # As after training that went on.
    folder = sweep / JOBS[0] / "checkpoints"
    content = read_checkpoint(folder / "best.ckpt")
    SealedCheckpoints().save_checkpoint(content | {"epoch": 7}, folder / "best.ckpt")
    assert evaluate(sweep) == "Evaluated 1 jobs, 1 before"


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["joblib", "ray"])
def test_every_launcher_gives_the_numbers_of_one_process(launcher: str, sweep: Path) -> None:
    if not installed(launcher):
        pytest.skip(f"hydra/launcher={launcher} is not installed")
    evaluate(sweep)
    one = {job: metrics(sweep, job) for job in JOBS}
    for job in JOBS:
        (sweep / job / "evaluation.json").unlink()
    command = ["-m", "vae.evaluate", f"sweep={sweep}", *CHEAP, f"hydra/launcher={launcher}"]
    done = run_command(*command, folder=sweep.parent, timeout=900)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Evaluated 2 jobs in")
    assert {job: metrics(sweep, job) for job in JOBS} == one
    with damaged(sweep / JOBS[0]) as checkpoint:
        done = run_command(*command, "seed=5", folder=sweep.parent, timeout=900)
    assert done.returncode == 1
    assert done.stdout.startswith("Evaluated 1 jobs in")
    assert done.stderr.startswith(f"error: {JOBS[0]}: {checkpoint}: ")
    assert done.stderr.count("\n") == 1


def test_the_launcher_is_that_of_the_sweep_if_it_can_evaluate(
    sweep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vae.sweep.evaluation.is_there", lambda name: name != "ray")
    manifest = json.loads((sweep / "sweep.json").read_text())
    for own, taken in {
        "hydra/launcher=joblib hydra.launcher.n_jobs=3": ["hydra/launcher=joblib", "hydra.launcher.n_jobs=3"],
        "hydra/launcher=submitit_slurm sweep.members=4 hydra.launcher.cpus_per_task=2": [
            "hydra/launcher=submitit_slurm",
            "hydra.launcher.cpus_per_task=2",
        ],
        "hydra/launcher=ray": [],
        "hydra/launcher=submitit_local": [],
        "hydra/launcher=stacked hydra.launcher.members=4": [],
        "seed=1": [],
    }.items():
        (tmp_path / "sweep.json").write_text(json.dumps(manifest | {"arguments": own.split()}))
        argv = sweep_arguments(["evaluate", f"sweep={tmp_path}", "k=3"])
        assert argv == ["evaluate", "--multirun", *taken, f"hydra.sweep.dir='{tmp_path}'", "k=3"]
    typed = sweep_arguments(["evaluate", f"sweep={tmp_path}", "hydra/launcher=basic"])
    assert typed[2:] == [f"hydra.sweep.dir='{tmp_path}'", "hydra/launcher=basic"]
    assert sweep_arguments(["evaluate", "run=x"]) == ["evaluate", "run=x"]


def test_a_job_that_fails_is_named_and_the_others_are_evaluated(sweep: Path) -> None:
    with damaged(sweep / JOBS[0]) as checkpoint:
        done = call_command("vae.evaluate", f"sweep={sweep}", *CHEAP, "seed=3", folder=sweep.parent)
    assert done.returncode == 1
    assert done.stdout.startswith("Evaluated 1 jobs in")
    assert done.stderr.startswith(f"error: {JOBS[0]}: {checkpoint}: ")
    assert done.stderr.count("\n") == 1
    assert evaluate(sweep, "seed=3") == "Evaluated 1 jobs, 1 before"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["sweep=nowhere"], "error: nowhere: not a sweep's directory"),
        (["sweep=SWEEP", "run=x"], "error: sweep=SWEEP: takes all jobs of the sweep, so that run= must not"),
        (["sweep=SWEEP", "k=1,2"], "error: k=1,2: must be one value, the same for all jobs"),
        (["sweep=SWEEP", "k=0"], "error: k=0: must be a whole number of at least 1"),
        (["sweep=SWEEP", "kk=0"], "error: kk=0: no such key"),
        (["sweep=SWEEP", "out=x"], "error: out=x: must be null with sweep=…"),
        (["sweep=SWEEP", "trainer.devices=2"], "error: trainer.devices=2: must be 1 with sweep=…"),
        (
            ["sweep=SWEEP", "hydra/launcher=stacked"],
            "error: hydra/launcher=stacked: must be one of basic, joblib, ray, submitit_slurm for evaluations",
        ),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, sweep: Path) -> None:
    given = [argument.replace("SWEEP", str(sweep)) for argument in arguments]
    done = call_command("vae.evaluate", *given, folder=sweep.parent)
    assert done.returncode == 1
    assert done.stderr.startswith(line.replace("SWEEP", str(sweep))), done.stderr
    assert done.stderr.count("\n") == 1
