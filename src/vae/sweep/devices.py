"""Which processes and GPUs a job of a sweep gets."""

import ctypes
import itertools
import os
import socket
import sys
from pathlib import Path
from typing import IO

from omegaconf import DictConfig, ListConfig

from vae.checks import ConfigError
from vae.run.lock import lock_file

_held: list[IO[str]] = []
"""The lock of this process's GPUs, held until the process ends."""


def gpu_count() -> int:
    """Return the CUDA devices that this process may use."""
    if "torch" not in sys.modules and not _may_have_gpus():
        return 0
    import torch

    return torch.cuda.device_count()


def _may_have_gpus() -> bool:
    """Return whether a driver is installed: a process that only launches jobs need not wait a second for torch
    to say.
    """
    if not sys.platform.startswith("linux") or Path("/dev/kfd").exists():
        return True
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def wanted_processes(config: DictConfig) -> int:
    """Return the number of processes that a run will have, over all nodes."""
    uses_gpus = config.trainer.accelerator in ("auto", "gpu", "cuda")
    asks_for_all = str(config.trainer.devices) in ("auto", "-1")
    there = gpu_count() if uses_gpus and asks_for_all else 1
    return devices_per_node(config.trainer.devices, there) * config.trainer.get("num_nodes", 1)


def devices_per_node(devices: object, available: int) -> int:
    """Return how many devices `trainer.devices` means on a node.

    Args:
        devices: a number, a list of devices, or `auto`.
        available: what auto stands for.
    """
    if isinstance(devices, ListConfig):
        return len(devices)
    return int(str(devices)) if str(devices).isdigit() else max(available, 1)


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
    """Return the first number that no living process on this machine holds."""
    folder.mkdir(exist_ok=True)
    for slot in itertools.count():
        if file := lock_file(folder / f"{socket.gethostname()}-{slot}", wait=False):
            _held.append(file)
            return slot
    raise AssertionError


def cpu_count() -> int:
    """Return the CPU cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def jobs_at_once() -> int:
    """Return how many jobs a machine runs at once by default: one for each GPU, else one for each CPU core."""
    return gpu_count() or cpu_count()


def gpus_per_job(devices: object) -> int:
    """Return how many GPUs a job with these `trainer.devices` asks a scheduler for; none where there are none."""
    return int(str(devices)) if str(devices).isdigit() and gpu_count() else min(gpu_count(), 1)
