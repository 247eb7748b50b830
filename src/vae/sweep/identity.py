"""What makes two launches the same sweep."""

from typing import Any

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from vae.sweep.grid import Grid

# They change where and how jobs run, not what they compute.
NEUTRAL = (
    "name",
    "paths",
    "resume",
    "sweep",
    "sweep_metric",
    "logger",
    "open",
    "callback.page",
    "callback.progress",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.num_nodes",
    "trainer.default_root_dir",
)


def sweep_identity(loader: ConfigLoader, config: DictConfig, grid: Grid) -> dict[str, Any]:
    """The axes, without their values, and the config that all jobs share, without what does not change numbers.

    A first job is composed for this, and one for every option of a config group that varies, so that a
    misspelled key or option is an error of the command and not of each job.
    """
    first = [f"{key}={values[0]}" for key, values in grid.axes.items()]
    composed = loader.load_sweep_config(config, [*grid.constants, *first])
    options = {*config.hydra.runtime.choices, *composed.hydra.runtime.choices}
    for key, values in grid.axes.items():
        if key.lstrip("+") in options:
            for value in values[1:]:
                others = [override for override in first if not override.startswith(f"{key}=")]
                loader.load_sweep_config(config, [*grid.constants, *others, f"{key}={value}"])
    return identity_of(composed, grid)


def identity_of(composed: DictConfig, grid: Grid) -> dict[str, Any]:
    """The same from the composed config of the first job."""
    shared = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(shared, dict)
    axes = [key.lstrip("+").partition("@")[0].replace("/", ".") for key in grid.axes]
    for key in ("hydra", *NEUTRAL, *axes):
        _remove(shared, key)
    within = [c for c in grid.constants if any(c.lstrip("+~").startswith(f"{axis}.") for axis in axes)]
    return {"axes": sorted(grid.axes), "constants": sorted(within), "config": shared}


def _remove(container: dict[Any, Any], key: str) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        container = container.get(parent) or {}
        if not isinstance(container, dict):
            return
    container.pop(leaf, None)
