"""Sweeps and ranks on a real SLURM, of one node on this machine: make test-slurm installs it and runs these."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("submitit")

from commands import QUICK, TRAIN, run_command, run_train, timeless, user_environment
from sweep.slurm_cluster import output_of, slurm_cluster, why_no_accounting, why_not
from sweep.small_sweep import PROBED, SMALL, folders_of, same, summary_of
from vae.sweep.slurm import Nodes, nodes_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]
ON_SLURM = "hydra/launcher=submitit_slurm"
LONG = "trainer.max_epochs=60"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with slurm_cluster(tmp_path_factory.mktemp("slurm") / "s") as environment:
        yield environment


@pytest.fixture
def slurm(cluster: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment of the cluster's users; nothing is left in the queue before the next one's jobs."""
    yield cluster
    ask(cluster, "scancel", "--user=root")
    wait_for(lambda: not ask(cluster, "squeue", "--noheader"))


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep that the tests put into SLURM's hands, undisturbed."""
    path = tmp_path_factory.mktemp("sweeps") / "basic"
    done = run_train("-m", "seed=0,1", *SMALL, LONG, f"hydra.sweep.dir={path}")
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def start(slurm: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, TRAIN, *arguments],
        env=user_environment(**slurm, VAE_PROGRESS="on"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ask(slurm: dict[str, str], *command: str) -> str:
    return output_of(list(command), os.environ | slurm)


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 240
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def elements(sweep: Path) -> list[str]:
    """SLURM's ids of a sweep's jobs."""
    return sorted(path.name for path in sweep.glob(".submitit/*/[0-9]*_*"))


def attempts(sweep: Path, job: str) -> int:
    return json.loads((sweep / job / "job.json").read_text())["attempts"]


def test_an_array_by_the_defaults_on_nodes_without_gpus(
    slurm: dict[str, str], basic: Path, tmp_path: Path
) -> None:
    done = run_train("-m", "seed=0,1", *SMALL, LONG, ON_SLURM, f"hydra.sweep.dir={tmp_path}", **slurm)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert "warn" not in done.stdout.lower()
    (script,) = tmp_path.glob(".submitit/*/*/*.sh")
    for line in ("array=0-1%2", "cpus-per-task=2", "nodes=1", "ntasks-per-node=1", "time=1440"):
        assert f"#SBATCH --{line}\n" in script.read_text()
    assert "gpu" not in script.read_text()
    assert summary_of(tmp_path) == summary_of(basic)


def test_the_jobs_of_a_sweep_are_evaluated_as_an_array(slurm: dict[str, str], tmp_path: Path) -> None:
    path, jobs = tmp_path / "sweep", ["seed=0", "seed=1", "seed=2"]
    done = run_train("-m", "seed=0,1,2", *SMALL, "trainer.max_epochs=1", f"hydra.sweep.dir={path}")
    assert done.returncode == 0, done.stdout + done.stderr
    command = ["-m", "vae.evaluate", f"sweep={path}", "k=5", "metric=default"]
    checkpoint = path / "seed=0" / "checkpoints" / "best.ckpt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[:-60])
    done = run_command(*command, ON_SLURM, **slurm)
    assert done.returncode == 1
    assert "\nEvaluated 2 jobs in" in f"\n{done.stdout}", done.stdout  # behind why jobs wait, perhaps
    assert done.stderr.startswith(f"error: seed=0: {checkpoint}: ")
    assert done.stderr.count("\n") == 1
    checkpoint.write_bytes(whole)
    records = {job: (path / job / "job.json").read_bytes() for job in jobs}
    with subprocess.Popen(
        [sys.executable, *command, ON_SLURM, "hydra.launcher.cpus_per_task=8"],
        env=user_environment(**slurm),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:  # more than there are: it waits until it is cancelled
        wait_for(lambda: ask(slurm, "squeue", "--noheader", "--states=PENDING"))
        ask(slurm, "scancel", "--user=root")
        out, err = process.communicate(timeout=240)
    assert (process.returncode, err) == (1, "error: seed=0: cancelled in SLURM (scancel)\n"), out + err
    assert {job: (path / job / "job.json").read_bytes() for job in jobs} == records
    done = run_command(*command, ON_SLURM, **slurm)
    assert (done.returncode, done.stderr) == (0, "")
    assert "\nEvaluated 1 jobs in" in f"\n{done.stdout}", done.stdout
    on_slurm = {job: json.loads((path / job / "evaluation.json").read_text())["metrics"] for job in jobs}
    for job in jobs:
        (path / job / "evaluation.json").unlink()
    assert run_command(*command).returncode == 0
    assert on_slurm == {job: json.loads((path / job / "evaluation.json").read_text())["metrics"] for job in jobs}


@pytest.mark.skipif(why_no_accounting() is not None, reason=str(why_no_accounting()))
def test_a_slurm_that_keeps_accounts_has_nothing_to_say(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    with slurm_cluster(tmp_path / "slurm", keeps_accounts=True) as accounted:
        done = run_train("-m", "seed=0,1", *SMALL, ON_SLURM, f"hydra.sweep.dir={path}", **accounted)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stderr == ""
        assert "warn" not in done.stdout.lower()
        wait_for(lambda: accounts(accounted).count("COMPLETED") == 2)
        assert {line.partition("|")[0] for line in accounts(accounted).splitlines()} == {*elements(path)}


def accounts(slurm: dict[str, str]) -> str:
    """What SLURM has noted of all jobs."""
    return ask(slurm, "sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID,State")


def test_what_the_partition_has(slurm: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in slurm.items():
        monkeypatch.setenv(name, value)
    assert nodes_of(None) == nodes_of("main") == [Nodes(cpus=2, gpus=0)]
    assert nodes_of("other") == []


def test_jobs_that_cannot_run_say_why_within_a_minute(slurm: dict[str, str], tmp_path: Path) -> None:
    wide = [*SMALL, "hydra.launcher.cpus_per_task=8"]
    with start(slurm, "-m", "seed=0,1", *wide, ON_SLURM, f"hydra.sweep.dir={tmp_path}") as process:
        assert process.stdout is not None
        began = time.monotonic()
        line = next(line for line in process.stdout if line.startswith("SLURM: "))
        process.terminate()
        out, err = process.communicate(timeout=60)
    assert re.fullmatch(r"SLURM: 2 of 2 jobs wait \(\w+\); hydra.launcher asks for .*cpus_per_task=8.*\n", line)
    assert time.monotonic() - began < 90
    # What was typed is to go on by itself: so says the sweep, and SLURM has it still.
    assert (process.returncode, err) == (143, "")
    assert f"python train.py resume={tmp_path}" in out
    queued = ask(slurm, "squeue", "--noheader", "--array", "--format=%i").split()
    assert queued == elements(tmp_path)
    ask(slurm, "scancel", *queued)


def test_what_slurm_does_not_take_is_one_line(slurm: dict[str, str], tmp_path: Path) -> None:
    done = run_train(
        "-m", "seed=0,1", *SMALL, ON_SLURM, "hydra.launcher.partition=none", f"hydra.sweep.dir={tmp_path}", **slurm
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: hydra/launcher=submitit_slurm: SLURM does not take the jobs: ")
    assert "invalid partition" in done.stderr
    assert "partition=none" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_requeued_job_goes_on_and_a_cancelled_one_is_left(
    slurm: dict[str, str], basic: Path, tmp_path: Path
) -> None:
    one_cpu = "hydra.launcher.cpus_per_task=1"
    command = ["-m", "seed=0,1", *SMALL, LONG, ON_SLURM, one_cpu, f"hydra.sweep.dir={tmp_path}"]
    with start(slurm, *command) as process:
        for job in ("seed=0", "seed=1"):
            wait_for((tmp_path / job / "checkpoints" / "last.ckpt").exists)
        ask(slurm, "scontrol", "requeue", elements(tmp_path)[0])
        ask(slurm, "scancel", elements(tmp_path)[1])
        out, err = process.communicate(timeout=300)
    assert (process.returncode, err) == (1, ""), out + err
    assert "2 jobs, 1 done, 1 failed" in out
    assert (attempts(tmp_path, "seed=0"), attempts(tmp_path, "seed=1")) == (2, 1)
    log = (tmp_path / "seed=0" / "output.log").read_text()
    assert len(re.findall("^epoch 1/60 ", log, re.MULTILINE)) == 1
    there, expected = summary_of(tmp_path), summary_of(basic)
    assert there["seed=0"] == expected["seed=0"]
    assert there["seed=1"]["reason"] == "cancelled in SLURM (scancel)"
    again = run_train(f"resume={tmp_path}", **slurm)
    assert again.returncode == 0, again.stdout + again.stderr
    assert summary_of(tmp_path) == expected


def test_a_job_at_its_time_limit_goes_on_under_a_sweep_that_was_killed_and_resumed(
    slurm: dict[str, str], basic: Path, tmp_path: Path
) -> None:
    command = ["-m", "seed=0,1", *SMALL, LONG, ON_SLURM, "hydra.launcher.timeout_min=30"]
    with start(slurm, *command, f"hydra.sweep.dir={tmp_path}") as process:
        wait_for((tmp_path / "seed=0" / "checkpoints" / "last.ckpt").exists)
        process.kill()
    ask(slurm, "scancel", "--signal=USR2", elements(tmp_path)[0])  # what SLURM sends before the limit
    again = run_train(f"resume={tmp_path}", **slurm)
    assert again.returncode == 0, again.stdout + again.stderr
    assert attempts(tmp_path, "seed=0") == 2
    assert summary_of(tmp_path) == summary_of(basic)


def test_a_stack_is_one_job_of_slurms_and_goes_on_when_it_is_queued_again(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    grid = ["-m", "seed=0,1", "objective.k=1,2", *SMALL, LONG]
    two, path, expected = "sweep.members=2", tmp_path / "stacks", tmp_path / "basic"
    with start(slurm, *grid, ON_SLURM, two, f"hydra.sweep.dir={path}") as process:
        wait_for((path / "objective.k=1,seed=0" / "checkpoints" / "last.ckpt").exists)
        assert len(elements(path)) == 2
        ask(slurm, "scancel", "--signal=USR2", elements(path)[0])
        out, err = process.communicate(timeout=400)
    assert (process.returncode, err) == (0, ""), out + err
    assert {name: attempts(path, name) for name in folders_of(path)} == {
        f"objective.k={k},seed={seed}": 3 - k for k in (1, 2) for seed in (0, 1)
    }
    assert run_train(*grid, f"hydra.sweep.dir={expected}").returncode == 0
    same(summary_of(path), summary_of(expected))


@pytest.mark.parametrize("pruned", [False, True])
def test_slurm_starts_the_ranks_of_a_job(pruned: bool, slurm: dict[str, str], tmp_path: Path) -> None:
    path, records = tmp_path / "sweep", tmp_path / "records"
    records.mkdir()
    # Without strategy=ddp: Lightning takes it from the number of devices.
    command = ["-m", "latent_size=2,3", *QUICK[:-1], "trainer.devices=2", ON_SLURM, f"hydra.sweep.dir={path}"]
    if pruned:
        pytest.importorskip("optuna")
        pruner = [
            "hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner",
            "+hydra.sweeper.pruner.lower=1000",
        ]
        pruner += ["~hydra.sweeper.pruner.n_startup_trials", "hydra.sweeper.pruner.n_warmup_steps=0"]
        command += ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", *pruner]
    done = run_train(*command, **slurm, PYTHONPATH=PROBED, PROBE_RECORDS=str(records))
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(file.read_text()) for file in records.iterdir()]
    jobs = folders_of(path)
    assert len(found) == 2 * len(jobs)
    for job in jobs:
        ranks = [record for record in found if Path(record["config"]["paths"]["run"]).name == job]
        assert {(record["rank"], record["world_size"]) for record in ranks} == {(0, 2), (1, 2)}
        assert ranks[0]["config"] == ranks[1]["config"]
        # The first rank's resolved config, which no other has written over.
        assert "${" not in (path / job / ".hydra" / "config.yaml").read_text()
        assert len(list((path / job / "wandb").glob("offline-run-*"))) == 1
        assert summary_of(path)[job]["status"] == ("pruned" if pruned else "done")


def test_ranks_of_srun_agree_on_a_directory_and_a_batch_script_starts_its_own(
    slurm: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, TRAIN, *QUICK, "logger=csv", "trainer.devices=2"]

    def submit(*line: str) -> tuple[Path, str]:
        script = tmp_path / "job.sh"
        script.write_text("#!/bin/bash\n" + " ".join(f"'{word}'" for word in line))
        before = set(tmp_path.glob("runs/digits/*"))
        output = tmp_path / "output"
        output.unlink(missing_ok=True)
        options = [f"--output={output}", f"--chdir={tmp_path}", "--wait", "--ntasks-per-node=2", "--export=ALL"]
        ended = subprocess.run(
            ["sbatch", *options, str(script)], env=user_environment(**slurm), check=False, timeout=300
        )
        assert ended.returncode == 0, output.read_text()
        assert "`srun`" not in output.read_text()
        (run,) = set(tmp_path.glob("runs/digits/*")) - before
        return run, output.read_text()

    by_srun, _ = submit("srun", *command)
    by_lightning, _ = submit(*command)
    stacked = [word for word in command if word != "trainer.devices=2"]
    sweep, _ = submit(*stacked, "-m", "seed=0,1", "hydra/launcher=stacked")
    assert timeless(by_srun) == timeless(by_lightning)
    assert {row["status"] for row in summary_of(sweep).values()} == {"done"}


def test_srun_with_too_many_tasks_says_what_to_type(slurm: dict[str, str], tmp_path: Path) -> None:
    done = subprocess.run(
        ["srun", "-n2", sys.executable, TRAIN, *QUICK],
        env=user_environment(**slurm),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if not line.startswith("srun: ")]
    assert said == [
        "error: trainer.devices=1: srun has started 2 processes on 1 node; type srun --ntasks-per-node=2 "
        "python train.py trainer.devices=2 …, or without srun: python train.py trainer.devices=2 …"
    ]


def test_a_signal_long_before_training_queues_the_job_again(slurm: dict[str, str], tmp_path: Path) -> None:
    script, output = tmp_path / "job.sh", tmp_path / "output"
    command = [sys.executable, TRAIN, *QUICK, "logger=csv", f"hydra.run.dir={tmp_path}/run"]
    script.write_text("#!/bin/bash\nexec srun " + " ".join(command))
    options = ["--parsable", "--requeue", f"--output={output}", "--open-mode=append", f"--chdir={tmp_path}"]
    job = ask(slurm | {"PYTHONPATH": os.environ["PYTHONPATH"]}, "sbatch", *options, str(script)).strip()

    def field(name: str) -> str:
        found = re.search(rf"\b{name}=(\S+)", ask(slurm, "scontrol", "show", "job", job))
        return found[1] if found else ""

    wait_for(lambda: ask(slurm, "squeue", "--noheader", "--steps", f"--jobs={job}"))
    time.sleep(0.5)
    ask(slurm, "scancel", "--signal=USR1", job)
    wait_for(lambda: field("Restarts") == "1")
    wait_for((tmp_path / "run" / "metrics.json").exists)


def test_commands_on_a_login_node_do_not_speak_of_srun(slurm: dict[str, str], tmp_path: Path) -> None:
    trained = run_train(*QUICK, f"hydra.run.dir={tmp_path}", **slurm)
    assert (trained.returncode, trained.stderr) == (0, "")
    for module in ("evaluate", "sample"):
        done = run_command("-m", f"vae.{module}", f"run={tmp_path}", **slurm)
        assert done.returncode == 0, done.stderr
        assert "srun" not in done.stdout + done.stderr
