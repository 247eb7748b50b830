"""The origin of numbers: the commit, the device and the version of torch."""

import platform
import subprocess
from functools import cache
from pathlib import Path

import torch
from lightning import Trainer

from vae.paths import ROOT


def origin(trainer: Trainer) -> dict[str, str | None]:
    """Return the contents of a run's `.hydra/origin.json`."""
    return {"commit": _loaded(), "device": device(trainer), "torch": torch.__version__}


def commit(root: Path = ROOT) -> str | None:
    """Return the commit of the sources, or None if there is no repository.

    A + follows it if the sources have changed since, or have files that are in no commit.
    """
    if not (root / ".git").exists():
        return None
    try:
        head = _git(root, "rev-parse", "--short=10", "HEAD")
        return head + ("+" if _git(root, "status", "--porcelain", "--", "src", "conf", "train.py") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


@cache
def _loaded() -> str | None:
    """Return the commit at this process's first run.

    The code that the process has loaded does not change when the files do.
    """
    return commit()


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def device(trainer: Trainer) -> str:
    """Return the device, such as `2 × NVIDIA H100` or `x86_64 CPU, 2 threads`."""
    where = trainer.strategy.root_device
    if where.type != "cuda":
        kind = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
        return kind if where.type == "cpu" else f"{where.type}, {kind}"
    count = f"{trainer.world_size} × " if trainer.world_size > 1 else ""
    return count + torch.cuda.get_device_name(where)
