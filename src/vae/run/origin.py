"""The origin of numbers: command, sources with what no commit has of them, packages, device and host."""

import platform
import socket
import subprocess
from collections.abc import Sequence
from functools import cache
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from lightning import Trainer

from vae.paths import ROOT
from vae.run.trust import trusted

SOURCES = ("src", "conf", "train.py")
"""Of the project's clone, what its runs are made by."""
LARGEST = 1_000_000
"""Characters, at most, of the changes that a run keeps."""


def origin(trainer: Trainer, command: str | None) -> dict[str, Any]:
    """Return the contents of a run's `.hydra/origin.json`: text and, as `packages`, versions by name.

    Args:
        trainer: trains the run.
        command: as typed; None for a job of a sweep, whose sweep.json has it.
    """
    found = {
        "commit": _loaded(),
        "device": device(trainer),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "host": socket.gethostname(),
        "command": command,
    }
    return {**found, **_own_packages(), "packages": _installed()}


def changes() -> str:
    """Return what the sources of this process have that is in no commit, as a patch of each repository."""
    return _loaded_changes()


@cache
def _loaded_changes() -> str:
    ours = [(ROOT, SOURCES)] if (ROOT / ".git").exists() else []
    return "".join(uncommitted(root, sources) for root, sources in [*ours, *_own_sources().values()])


@cache
def _installed() -> dict[str, str]:
    """Return the version of every installed package."""
    found = {str(each.metadata["Name"]): each.version for each in distributions()}
    return dict(sorted(found.items(), key=lambda pair: pair[0].lower()))


@cache
def _own_packages() -> dict[str, str | None]:
    """Return the commit of each package that the user trusts, under `commit of …`."""
    return {f"commit of {name}": commit(root, sources) for name, (root, sources) in _own_sources().items()}


def _own_sources() -> dict[str, tuple[Path, Sequence[str]]]:
    """Return, for each package that the user trusts and Python finds, a folder and its files there."""
    found: dict[str, tuple[Path, Sequence[str]]] = {}
    for name in sorted(trusted()):
        spec = find_spec(name)
        if spec is not None and spec.origin is not None:
            file = Path(spec.origin)
            found[name] = (file.parent, ["." if file.name == "__init__.py" else file.name])
    return found


def commit(root: Path = ROOT, sources: Sequence[str] = SOURCES) -> str | None:
    """Return the commit of the sources, or None if there is no repository.

    A + follows it if the sources have changed since, or have files that are in no commit.
    """
    try:
        head = _git(root, "rev-parse", "--short=10", "HEAD").strip()
        return head + ("+" if _git(root, "status", "--porcelain", "--", *sources) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def uncommitted(root: Path, sources: Sequence[str]) -> str:
    """Return what sources have that is in no commit, as a patch, with new files whole.

    It is empty where there is no repository. Files that would make it too long are named.
    """
    try:
        patch = _git(root, "diff", "HEAD", "--", *sources)
        new = _git(root, "ls-files", "-z", "--others", "--exclude-standard", "--", *sources).split("\0")
    except (OSError, subprocess.CalledProcessError):
        return ""
    for name in filter(None, new):
        is_large = (root / name).stat().st_size > LARGEST
        # With exit status 1, as there is a difference.
        part = "" if is_large else _git(root, "diff", "--no-index", "--", "/dev/null", name, status=1)
        patch += part if part and len(patch) + len(part) <= LARGEST else f"# left out: {name}\n"
    return patch if len(patch) <= 2 * LARGEST else patch[:LARGEST] + "\n# cut off\n"


@cache
def _loaded() -> str | None:
    """Return the commit at this process's first run.

    The code that the process has loaded does not change when the files do.
    """
    return commit() if (ROOT / ".git").exists() else None


def _git(root: Path, *arguments: str, status: int = 0) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, errors="replace", check=False
    )
    if done.returncode not in (0, status):
        done.check_returncode()
    return done.stdout


def device(trainer: Trainer) -> str:
    """Return the device, such as `2 × NVIDIA H100` or `x86_64 CPU, 2 threads`."""
    where = trainer.strategy.root_device
    if where.type != "cuda":
        kind = f"{platform.machine()} CPU, {torch.get_num_threads()} threads"
        return kind if where.type == "cpu" else f"{where.type}, {kind}"
    count = f"{trainer.world_size} × " if trainer.world_size > 1 else ""
    return count + torch.cuda.get_device_name(where)
