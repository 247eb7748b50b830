"""What is refused before a launcher is asked for anything."""

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError
from vae.paths import CONF
from vae.sweep import adaptive, devices, launcher
from vae.sweep.launcher import check_launcher, load_launcher, ray_object_store


@pytest.mark.parametrize(("name", "extra"), [("ray", "ray"), ("submitit_slurm", "slurm")])
def test_a_launcher_that_is_not_installed_names_its_extra(
    name: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "find_spec", lambda name: None)
    config = OmegaConf.create({"hydra": {"runtime": {"choices": {"hydra/launcher": name}}}})
    with pytest.raises(ConfigError, match=rf"hydra/launcher={name}: .* pip install -e '\.\[{extra}\]'"):
        load_launcher(HydraContext(config_loader=None, callbacks=None), lambda config: None, config)


def test_optuna_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"hydra/sweeper=optuna: .* pip install -e '\.\[optuna\]'"):
        adaptive.OptunaSweep(["maximize val/elbo"], 1, 1, 0, OmegaConf.create())


@pytest.mark.parametrize(
    ("init", "remote", "line"),
    [
        ({}, {"num_cpus": 1, "num_gpus": 0.25}, None),
        ({}, {"num_cpus": 1, "num_gpus": 3}, "remote.num_gpus=3: Ray has 2 on this machine"),
        ({}, {"num_cpus": 100_000}, "remote.num_cpus=100000: Ray has"),
        ({"num_cpus": 1}, {"num_cpus": 2}, "remote.num_cpus=2: Ray has 1 on this machine"),
        ({"address": "auto"}, {"num_cpus": 100_000}, None),
    ],
)
def test_a_ray_of_this_machine_is_not_asked_for_more_than_it_has(
    init: dict[str, object], remote: dict[str, object], line: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launcher, "gpu_count", lambda: 2)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    choices = {"runtime": {"choices": {"hydra/launcher": "ray"}}}
    hydra = {**choices, "launcher": {"ray": {"init": init, "remote": remote}}}
    config = OmegaConf.create(
        {"hydra": hydra, "trainer": {"accelerator": "cpu", "devices": 1}, "sweep": {"members": None}}
    )
    unused = BasicLauncher()
    if line is None:
        check_launcher(unused, config)
    else:
        with pytest.raises(ConfigError, match=line):
            check_launcher(unused, config)


@pytest.mark.parametrize(("name", "refused"), [("joblib", True), ("ray", True), ("submitit_slurm", False)])
def test_a_login_node_need_not_have_the_gpus_of_a_cluster(
    name: str, refused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devices, "gpu_count", lambda: 0)
    monkeypatch.setattr(launcher.shutil, "which", lambda name: "/usr/bin/srun")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def config(address: str | None) -> DictConfig:
        hydra = {
            "runtime": {"choices": {"hydra/launcher": name}},
            "launcher": {"ray": {"init": {"address": address}, "remote": {}}},
        }
        return OmegaConf.create(
            {"hydra": hydra, "trainer": {"accelerator": "gpu", "devices": 1}, "sweep": {"members": None}}
        )

    if refused:
        with pytest.raises(ConfigError, match=r"trainer\.accelerator=gpu has 0 on this machine"):
            check_launcher(BasicLauncher(), config(None))
    if name in ("ray", "submitit_slurm"):
        check_launcher(BasicLauncher(), config("auto"))


@pytest.mark.parametrize(
    ("name", "devices", "line"),
    [
        ("joblib", 1, "sweep.members=8: is for hydra/launcher=ray and submitit_slurm"),
        ("stacked", 1, "submitit_slurm; hydra/launcher=stacked has hydra.launcher.members"),
        ("submitit_slurm", 2, "sweep.members=8: jobs of 2 processes are not trained as one"),
    ],
)
def test_stacks_where_there_are_none_are_refused(name: str, devices: int, line: str) -> None:
    config = OmegaConf.create(
        {
            "hydra": {"runtime": {"choices": {"hydra/launcher": name}}, "launcher": {}},
            "trainer": {"accelerator": "cpu", "devices": devices},
            "sweep": {"members": 8},
        }
    )
    with pytest.raises(ConfigError, match=line):
        check_launcher(BasicLauncher(), config)


@pytest.mark.parametrize(("address", "store"), [("null", 75 << 20), ("local", 75 << 20), ("auto", None)])
def test_a_store_is_asked_for_only_of_a_ray_of_this_machine(
    address: str, store: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray refuses to join a cluster and be told how large its store is to be."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = ["hydra/launcher=ray", f"hydra.launcher.ray.init.address={address}"]
        config = compose("train", overrides, return_hydra_config=True)
    given = OmegaConf.select(config, "hydra.launcher.ray.init.object_store_memory", default="missing")
    assert given == store
    assert "object_store_memory" in config.hydra.launcher.ray.init  # or Hydra's plugin puts a size there
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert ray_object_store(None) is None
