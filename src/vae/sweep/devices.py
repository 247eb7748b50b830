"""Which processes and GPUs a job of a sweep gets."""

import ctypes
import fcntl
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import IO

from omegaconf import DictConfig, ListConfig

from vae.checks import ConfigError

_held: list[IO[bytes]] = []
"""The lock of this process's GPUs, held until the process ends."""


def gpu_count() -> int:
    """The CUDA devices that this process may use."""
    if "torch" not in sys.modules and not _may_have_gpus():
        return 0
    import torch

    return torch.cuda.device_count()


def _may_have_gpus() -> bool:
    """Whether a driver is installed: a process that only launches jobs need not wait a second for torch to say."""
    if not sys.platform.startswith("linux") or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def wanted_processes(config: DictConfig) -> int:
    """The number of processes that a run will have, over all nodes."""
    devices, nodes = config.trainer.devices, config.trainer.get("num_nodes", 1)
    if isinstance(devices, ListConfig):
        return len(devices) * nodes
    if str(devices) in ("auto", "-1"):
        uses_gpus = config.trainer.accelerator in ("auto", "gpu", "cuda")
        return max(gpu_count() if uses_gpus else 1, 1) * nodes
    return int(devices) * nodes if str(devices).isdigit() else nodes


def started_by_scheduler() -> bool:
    """Whether SLURM has already started a process for every device (`srun`)."""
    return int(os.environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_PROCID" in os.environ


def check_devices(config: DictConfig) -> None:
    """Refuse a sweep that asks for GPUs which this machine does not have, before any job starts.

    Raises:
        ConfigError: too few.
    """
    devices, accelerator = config.trainer.devices, config.trainer.accelerator
    if accelerator not in ("gpu", "cuda"):
        return
    count = gpu_count()
    wanted = wanted_processes(config)
    if wanted > count or count == 0:
        raise ConfigError(
            f"trainer.devices={devices}: trainer.accelerator={accelerator} has {count} on this machine"
        )


def check_launcher(name: str | None, launcher: DictConfig) -> None:
    """Refuse a launcher that cannot run its jobs from this machine.

    Raises:
        ConfigError: there is no SLURM, or Ray has too few CPUs or GPUs.
    """
    if name == "submitit_slurm" and shutil.which("srun") is None:
        raise ConfigError("hydra/launcher=submitit_slurm: no srun on this machine; submitit_local needs no SLURM")
    if name == "ray":
        check_ray(launcher)


def check_ray(launcher: DictConfig) -> None:
    """Refuse jobs that need more than a Ray on this machine has: it would wait without end. (A cluster may grow.)

    Raises:
        ConfigError: too few CPUs or GPUs.
    """
    init, remote = launcher.ray.init, launcher.ray.remote
    if init.get("address") is not None or "RAY_ADDRESS" in os.environ:
        return
    for name, there in (("num_cpus", os.cpu_count() or 1), ("num_gpus", gpu_count())):
        has, wanted = init.get(name), remote.get(name) or 0
        has = there if has is None else has
        if wanted > has:
            raise ConfigError(f"hydra.launcher.ray.remote.{name}={wanted}: Ray has {has} on this machine")


def claim_gpus(config: DictConfig, sweep: Path) -> None:
    """Give this worker process GPUs of its own, for as long as it lives; no more than that if there are none.

    Workers share GPUs only when there are more workers than GPUs.
    """
    count = gpu_count()
    if _held or count == 0 or config.trainer.accelerator == "cpu":
        return
    each = max(1, wanted_processes(config))
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(str(index) for index in range(count))
    slot = _take_slot(sweep / ".gpus")
    first = slot % max(count // each, 1) * each
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(visible.split(",")[first : first + each])


def _take_slot(folder: Path) -> int:
    """The first number that no living process on this machine holds."""
    folder.mkdir(exist_ok=True)
    slot = 0
    while True:
        file = (folder / f"{socket.gethostname()}-{slot}").open("wb")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            slot += 1
        else:
            _held.append(file)
            return slot


def jobs_at_once() -> int:
    """How many jobs a machine runs at once by default: one for each GPU, else one for each CPU core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # macOS has none
    return gpu_count() or cores or 1


def gpus_per_job(devices: object) -> int:
    """How many GPUs a job with these `trainer.devices` asks a scheduler for; none where there are none."""
    return int(str(devices)) if str(devices).isdigit() and gpu_count() else min(gpu_count(), 1)
