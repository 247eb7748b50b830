"""Sweeps through submitit's SLURM executor, with SLURM's own commands in place of a cluster."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("submitit")

from commands import QUICK, TRAIN, run_train, user_environment
from sweep.fake_slurm import install
from sweep.small_sweep import PROBED, SMALL, folders_of, summary_of

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path) -> dict[str, str]:
    """The environment with the fake commands in PATH, and the folder in which they leave their traces."""
    folder, commands = tmp_path / "slurm", tmp_path / "bin"
    folder.mkdir()
    commands.mkdir()
    install(commands)
    return {"PATH": f"{commands}:{os.environ['PATH']}", "FAKE_SLURM": str(folder), "VAE_PROGRESS": "on"}


def script_of(cluster: dict[str, str]) -> list[str]:
    return (Path(cluster["FAKE_SLURM"]) / "script").read_text().splitlines()


def wait_for(found: Callable[[], object]) -> None:
    deadline = time.monotonic() + 120
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_array_with_an_element_a_job_is_submitted(cluster: dict[str, str], tmp_path: Path) -> None:
    path, basic = tmp_path / "sweep", tmp_path / "basic"
    grid = ["-m", "seed=0,1,2", *SMALL]
    slurm = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.timeout_min=30"]
    slurm += ["hydra.launcher.array_parallelism=2", "+hydra.launcher.additional_parameters.mail-type=END"]
    done = run_train(*grid, *slurm, f"hydra.sweep.dir={path}", **cluster)
    assert done.returncode == 0, done.stdout + done.stderr
    script = script_of(cluster)
    for line in ("array=0-2%2", "nodes=1", "ntasks-per-node=1", "time=30", "partition=gpu", "signal=USR2@120"):
        assert f"#SBATCH --{line}" in script
    assert "#SBATCH --mail-type=END" in script
    assert run_train(*grid, f"hydra.sweep.dir={basic}").returncode == 0
    assert summary_of(path) == summary_of(basic)


def test_a_job_at_its_time_limit_is_queued_again_and_goes_on(cluster: dict[str, str], tmp_path: Path) -> None:
    path, basic = tmp_path / "sweep", tmp_path / "basic"
    grid = ["-m", "seed=0,1", *SMALL, "trainer.max_epochs=30"]
    command = [*grid, "hydra/launcher=submitit_slurm", f"hydra.sweep.dir={path}"]
    with subprocess.Popen(
        [sys.executable, TRAIN, *command],
        env=user_environment(**cluster),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_for((path / "seed=0" / "checkpoints" / "last.ckpt").exists)
        # What SLURM sends a while before it ends a job.
        os.kill(json.loads((path / "seed=0" / "job.json").read_text())["pid"], signal.SIGUSR2)
        out, err = process.communicate(timeout=200)
    assert process.returncode == 0, out + err
    assert [file.name for file in Path(cluster["FAKE_SLURM"]).glob("requeue-*")] == ["requeue-4711_0"]
    assert json.loads((path / "seed=0" / "job.json").read_text())["attempts"] == 2
    log = (path / "seed=0" / "output.log").read_text()
    assert len(re.findall("^epoch 1/30 ", log, re.MULTILINE)) == 1
    assert run_train(*grid, f"hydra.sweep.dir={basic}").returncode == 0
    assert summary_of(path) == summary_of(basic)


@pytest.mark.parametrize("pruned", [False, True])
def test_slurm_starts_the_ranks_of_a_job(pruned: bool, cluster: dict[str, str], tmp_path: Path) -> None:
    path, records = tmp_path / "sweep", tmp_path / "records"
    records.mkdir()
    # Without strategy=ddp: Lightning takes it from the number of devices.
    short = [
        *QUICK[:-1],
        "trainer.devices=2",
        "hydra/launcher=submitit_slurm",
        "hydra.launcher.gpus_per_node=null",
    ]
    command = ["-m", "latent_size=2,3", *short, f"hydra.sweep.dir={path}"]
    if pruned:
        pytest.importorskip("optuna")
        pruner = [
            "hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner",
            "+hydra.sweeper.pruner.lower=1000",
        ]
        pruner += ["~hydra.sweeper.pruner.n_startup_trials", "hydra.sweeper.pruner.n_warmup_steps=0"]
        command += ["hydra/sweeper=optuna", "hydra.sweeper.n_trials=1", *pruner]
    done = run_train(*command, **cluster, PYTHONPATH=PROBED, PROBE_RECORDS=str(records))
    log = (Path(cluster["FAKE_SLURM"]) / "log").read_text()
    assert done.returncode == 0, done.stdout + done.stderr + log
    assert "#SBATCH --ntasks-per-node=2" in script_of(cluster)
    found = [json.loads(file.read_text()) for file in records.iterdir()]
    jobs = folders_of(path)
    assert len(found) == 2 * len(jobs)
    for job in jobs:
        ranks = [record for record in found if Path(record["config"]["paths"]["run"]).name == job]
        assert {(record["rank"], record["world_size"]) for record in ranks} == {(0, 2), (1, 2)}
        assert ranks[0]["config"] == ranks[1]["config"]
        # The first rank's resolved config, which no other has written over.
        assert "${" not in (path / job / ".hydra" / "config.yaml").read_text()
        assert ranks[0]["environment"]["SLURM_PROCID"] != ranks[1]["environment"]["SLURM_PROCID"]
        assert len(list((path / job / "wandb").glob("offline-run-*"))) == 1
        assert summary_of(path)[job]["status"] == ("pruned" if pruned else "done")
