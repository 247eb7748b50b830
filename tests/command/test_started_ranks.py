"""Ranks that torchrun starts: one directory, the numbers of ranks that Lightning starts, or a line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from commands import QUICK, TRAIN, TWO_RANKS, run_command, timeless, user_environment
from vae.checks import ConfigError
from vae.command.distributed import Started, started, what_to_type
from vae.training.build import build_trainer

SHORT = [*QUICK, "trainer.max_epochs=1", "logger=csv"]


def torchrun(*arguments: str, folder: Path, processes: int = 2) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [*launcher, TRAIN, *arguments],
        capture_output=True,
        text=True,
        env=user_environment(),
        cwd=folder,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_ranks_of_torchrun_agree_on_a_directory(tmp_path: Path) -> None:
    done = torchrun(*SHORT, *TWO_RANKS, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = (tmp_path / "runs" / "digits").iterdir()
    assert (run / ".hydra" / "config.yaml").exists()
    alone = run_command(TRAIN, *SHORT, *TWO_RANKS, f"hydra.run.dir={tmp_path}/alone", folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert timeless(run) == timeless(tmp_path / "alone")
    assert done.stdout.count("test") == alone.stdout.count("test")
    # It goes on in place, too.
    more = torchrun(f"resume={run}", "trainer.max_epochs=2", folder=tmp_path)
    assert more.returncode == 0, more.stdout + more.stderr
    assert [path.name for path in (tmp_path / "runs" / "digits").iterdir()] == [run.name]
    assert '"epochs": 2' in (run / "metrics.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            SHORT,
            "error: trainer.devices=1: torchrun has started 2 processes on 1 node; type torchrun",
        ),
        (["-m", "seed=0,1", *SHORT, *TWO_RANKS], "error: torchrun: a sweep starts the ranks of its jobs itself"),
        ([*SHORT, *TWO_RANKS, "likelihood.sigma=nothing"], "error: likelihood.sigma=nothing: "),
    ],
)
def test_what_cannot_be_is_one_line_of_the_first_rank(arguments: list[str], line: str, tmp_path: Path) -> None:
    done = torchrun(*arguments, folder=tmp_path)
    assert done.returncode == 1
    # torchrun itself says more.
    assert [said for said in done.stderr.splitlines() if said.startswith("error: ")] == [
        said for said in done.stderr.splitlines() if said.startswith(line)
    ]
    assert line in done.stderr


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, None),
        # A batch script that has asked for two tasks and is one process, and a task that is the only one.
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2", "SLURM_PROCID": "0"}, None),
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}, None),
        (
            {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_STEP_NUM_NODES": "2"},
            Started("srun", 3, 4, 2),
        ),
        (
            {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "RANK": "1"},
            Started("torchrun", 1, 4, 2),
        ),
        ({"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1", "RANK": "0"}, None),
    ],
)
def test_who_has_started_this_process(
    variables: dict[str, str], found: Started | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert started() == found


def test_what_to_type() -> None:
    assert what_to_type(Started("srun", 0, 2, 1)) == (
        "srun --ntasks-per-node=2 python train.py trainer.devices=2 …, "
        "or without srun: python train.py trainer.devices=2 …"
    )
    assert what_to_type(Started("torchrun", 0, 4, 2)) == (
        "torchrun --nproc-per-node=2 train.py trainer.devices=2 trainer.num_nodes=2 …"
    )


@pytest.mark.parametrize("strategy", ["fsdp", "deepspeed_stage_2"])
def test_strategies_that_split_a_model_are_refused(strategy: str, composed: Callable[..., DictConfig]) -> None:
    with pytest.raises(ConfigError, match=f"trainer.strategy={strategy}: must be auto or ddp; FSDP and DeepSpeed"):
        build_trainer(composed(f"trainer.strategy={strategy}"))
