"""The same sweep under every launcher, with W&B on: its numbers, its runs in W&B, and several processes a job."""

from importlib.util import find_spec
from pathlib import Path

import pytest
from hydra.core.plugins import Plugins
from hydra.types import HydraContext
from omegaconf import OmegaConf

from commands import QUICK, metrics_of, run_train
from offline_wandb import read_offline_run
from sweep.test_sweep import GRID, NAMES, folders_of, summary_of
from vae.checks import ConfigError
from vae.sweep.sweeper import load_launcher

PLUGINS = {
    "joblib": "hydra_joblib_launcher",
    "ray": "hydra_ray_launcher",
    "submitit_local": "hydra_submitit_launcher",
}
LAUNCHERS = ["joblib", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ray", "submitit_local"))]
GRID_OF_4 = [*GRID, *QUICK[:-1], "callback.pictures.every_n_epochs=1"]


def installed(launcher: str) -> bool:
    return launcher == "basic" or find_spec(f"hydra_plugins.{PLUGINS[launcher]}") is not None


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


def test_a_launcher_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Unknown plugin class : 'hydra_plugins.hydra_ray_launcher.ray_launcher.RayLauncher'")

    monkeypatch.setattr(Plugins, "instantiate_launcher", unknown)
    config = OmegaConf.create({"hydra": {"runtime": {"choices": {"hydra/launcher": "ray"}}}})
    with pytest.raises(ConfigError, match=r"hydra/launcher=ray: .* pip install 'vae\[ray\]'"):
        load_launcher(HydraContext(config_loader=None, callbacks=None), lambda config: None, config)
