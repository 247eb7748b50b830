"""The same sweep under every launcher, with W&B on: its numbers, its runs in W&B, and several processes a job."""

from pathlib import Path

import pytest

from commands import QUICK, metrics_of, run_train
from offline_wandb import read_offline_run
from sweep.small_sweep import GRID, NAMES, folders_of, installed, summary_of

LAUNCHERS = ["joblib", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ray", "submitit_local"))]
GRID_OF_4 = [*GRID, *QUICK[:-1], "callback.pictures.every_n_epochs=1"]


@pytest.fixture(scope="module")
def basic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sweeps") / "basic"
    done = run_train("-m", *GRID_OF_4, f"hydra.sweep.dir={path}")
    assert done.returncode == 0, done.stdout + done.stderr
    return path


def check_wandb(sweep: Path) -> None:
    """One group; a run a job, that ended; names, tags, configs, histories and pictures are the job's."""
    runs = {name: read_offline_run(sweep / name) for name in folders_of(sweep)}
    assert set(runs) == NAMES
    assert len({run.id for run in runs.values()}) == 4
    assert len({run.group for run in runs.values()}) == 1
    for name, run in runs.items():
        assert (run.name, run.job_type, run.tags, run.exit_code) == (name, "sweep", name.split(","), 0)
        assert f"latent_size={run.config['latent_size']}" in name
        assert f"likelihood.sigma={run.config['likelihood']['sigma']:g}" in name
        metrics = metrics_of(sweep / name)
        for number in ("train/elbo", "test/elbo"):
            logged = [row[number] for row in run.history if number in row]
            assert logged[-1] == pytest.approx(metrics[number])
        assert len([row for row in run.history if "train/elbo" in row]) == metrics["epochs"]
        pictures = {key.rpartition("/")[0] for row in run.history for key in row}
        assert {"val/samples", "test/samples", "val/reconstructions"} <= pictures


def test_wandb_has_one_group_and_a_run_a_job(basic: Path) -> None:
    check_wandb(basic)


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_every_launcher_gives_the_same_summary_and_runs_in_wandb(
    launcher: str, basic: Path, tmp_path: Path
) -> None:
    if not installed(launcher):
        pytest.skip(f"hydra/launcher={launcher} is not installed")
    path = tmp_path / launcher
    done = run_train("-m", *GRID_OF_4, f"hydra/launcher={launcher}", f"hydra.sweep.dir={path}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert summary_of(path) == summary_of(basic)
    check_wandb(path)


@pytest.mark.slow
def test_members_of_a_stack_have_a_run_each_in_wandb(tmp_path: Path) -> None:
    path = tmp_path / "stacked"
    stacked = ["hydra/launcher=stacked", "hydra.launcher.processes=1"]
    done = run_train("-m", *GRID_OF_4, *stacked, f"hydra.sweep.dir={path}")
    assert done.returncode == 0, done.stdout + done.stderr
    check_wandb(path)
