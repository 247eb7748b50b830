"""Hydra's launchers: what each needs, and where each differs from the others."""

import os
import secrets
import shutil
from importlib.util import find_spec
from typing import Any

from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write

from vae.checks import ConfigError
from vae.sweep.devices import check_devices, gpu_count, wanted_processes

PLUGINS = {"joblib": "joblib", "ray": "ray", "submitit_local": "submitit", "submitit_slurm": "submitit"}
"""Hydra's plugin of each."""
EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit": "slurm"}
"""What to install for each plugin."""
ONE_BY_ONE = ("basic",)
"""They run jobs in the sweep's own process, and get one at a time: Hydra keeps each job's config (1,600 objects)
until a launch ends."""
LEAVES_NOTHING = ("joblib", "submitit_slurm")
"""When they say that a worker has died, none of what they held runs any more; the others go on with it."""
STACKS = ("ray", "submitit_slurm")
"""They can train jobs as one, by `sweep.members`."""
A_PROCESS_A_JOB = ("submitit_local", "submitit_slurm")
"""The end of one job's process is nobody else's."""
OUTLIVES_THE_SWEEP = ("submitit_slurm",)
"""Their jobs go on when the sweep is interrupted."""


def is_there(name: str) -> bool:
    """Return whether this machine has what a launcher needs."""
    return _missing_plugin(name) is None and not _lacks_srun(name)


def _missing_plugin(name: str | None) -> str | None:
    plugin = PLUGINS.get(name or "")
    return plugin if plugin and find_spec(f"hydra_plugins.hydra_{plugin}_launcher") is None else None


def _lacks_srun(name: str | None) -> bool:
    return name == "submitit_slurm" and shutil.which("srun") is None


def load_launcher(context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
    """Hydra's launcher of the config.

    Raises:
        ConfigError: its plugin is not installed.
    """
    name = config.hydra.runtime.choices.get("hydra/launcher")
    if (plugin := _missing_plugin(name)) is not None:
        raise ConfigError(
            f"hydra/launcher={name}: its plugin is not installed; pip install -e '.[{EXTRAS[plugin]}]'"
        )
    if name in A_PROCESS_A_JOB:
        # submitit unpickles what it finds in its folder, which nobody may have put there before.
        with read_write(config.hydra.launcher):
            folder = str(config.hydra.launcher.submitit_folder)
            config.hydra.launcher.submitit_folder = folder.replace("%j", f"{secrets.token_hex(4)}/%j")
    return Plugins.instance().instantiate_launcher(
        hydra_context=context, task_function=task_function, config=config
    )


def check_launcher(launcher: Launcher, config: DictConfig) -> None:
    """Refuse a launcher that cannot run its jobs from this machine.

    A Ray of this machine would wait without end for CPUs or GPUs that it does not have; a cluster may grow. A
    cluster's login node has no GPUs; that its other nodes have them is for SLURM or Ray to say.

    Raises:
        ConfigError: this machine, SLURM or Ray has less than the jobs ask for.
    """
    name, asked = config.hydra.runtime.choices.get("hydra/launcher"), config.hydra.launcher
    _check_members(config, name)
    if _lacks_srun(name):
        raise ConfigError("hydra/launcher=submitit_slurm: no srun on this machine; submitit_local needs no SLURM")
    if name == "submitit_slurm" or (name == "ray" and _joins(asked.ray.init.get("address"))):
        return
    check_devices(config)
    if name != "ray":
        return
    for resource, there in (("num_cpus", os.cpu_count() or 1), ("num_gpus", gpu_count())):
        has, wanted = asked.ray.init.get(resource), asked.ray.remote.get(resource) or 0
        has = there if has is None else has
        if wanted > has:
            raise ConfigError(f"hydra.launcher.ray.remote.{resource}={wanted}: Ray has {has} on this machine")


def members_of(config: DictConfig) -> Any:
    """Return how many jobs are trained as one, by Ray or SLURM; None for each by itself, as evaluations are."""
    return OmegaConf.select(config, "sweep.members")


def _check_members(config: DictConfig, launcher: str | None) -> None:
    if (members := members_of(config)) is None:
        return
    if launcher not in STACKS:
        own = "; hydra/launcher=stacked has hydra.launcher.members" if launcher == "stacked" else ""
        raise ConfigError(f"sweep.members={members}: is for hydra/launcher={' and '.join(STACKS)}{own}")
    if (processes := wanted_processes(config)) > 1:
        raise ConfigError(f"sweep.members={members}: jobs of {processes} processes are not trained as one")


def ray_object_store(address: str | None) -> int | None:
    """Bytes for the store of a Ray of this machine, the least that it takes; one that is joined has its own."""
    return None if _joins(address) else 75 << 20


def _joins(address: str | None) -> bool:
    """Return whether Ray will join a cluster that is there."""
    return address not in (None, "local") or "RAY_ADDRESS" in os.environ
