"""The commands, as a user runs them: mostly in processes of their own, on the digits, and what they leave."""

import contextlib
import importlib
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import torch
from hydra.core.global_hydra import GlobalHydra

REPOSITORY = Path(__file__).resolve().parents[1]
TRAIN = str(REPOSITORY / "train.py")
QUICK = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "network.hidden_sizes=[32]", "latent_size=2"]
TWO_RANKS = ["trainer.devices=2", "trainer.strategy=ddp"]


def user_environment(**more: str) -> dict[str, str]:
    """The environment without what pytest has added; conftest.py took away what the machine sets for its user."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")} | more


def run_command(
    *command: str, folder: Path = REPOSITORY, timeout: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, in a folder, with more in its environment."""
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env=user_environment(**environment),
        cwd=folder,
        timeout=timeout,
        check=False,
    )


def run_train(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run train.py as a user would."""
    return run_command(TRAIN, *arguments, **environment)


def train_quickly(run: Path, *arguments: str) -> Path:
    """A run of one epoch on the digits."""
    done = run_train(
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        "network.hidden_sizes=[32]",
        "latent_size=3",
        "logger=csv",
        "callback=none",
        f"hydra.run.dir='{run}'",
        *arguments,
    )
    assert done.returncode == 0, done.stderr
    return run


class Ended(NamedTuple):
    """How a command ended, and what it printed."""

    returncode: int
    stdout: str
    stderr: str


def call_command(module: str, *arguments: str, folder: Path) -> Ended:
    """The same as `python -m module arguments` in a folder, but within this process, which is quicker."""
    before = sys.argv
    sys.argv = [module, *arguments]
    out, err, code = io.StringIO(), io.StringIO(), 0
    try:
        with contextlib.chdir(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            GlobalHydra.instance().clear()
            importlib.import_module(module).main()
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        sys.argv = before
        GlobalHydra.instance().clear()
    return Ended(code, out.getvalue(), err.getvalue())


def metrics_of(run: Path) -> dict[str, float]:
    return json.loads((run / "metrics.json").read_text())


def timeless(run: Path) -> str:
    """metrics.json byte for byte but for the time."""
    text, times = re.subn(r'"seconds": [0-9.]+', "", (run / "metrics.json").read_text())
    assert times == 1
    return text


def weights_of(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)["state_dict"]
