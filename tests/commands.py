"""The commands, as a user runs them: in processes of their own."""

import contextlib
import importlib
import io
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from hydra.core.global_hydra import GlobalHydra

REPOSITORY = Path(__file__).resolve().parents[1]


def run_command(*command: str, folder: Path = REPOSITORY) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, without the environment of the process that tests."""
    environment = {
        k: v
        for k, v in os.environ.items()
        if not k.startswith(("PYTEST", "WANDB", "HYDRA", "DATA_DIR", "WEIGHTS"))
    }
    environment |= {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env=environment,
        cwd=folder,
        timeout=300,
        check=False,
    )


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


def train_quickly(run: Path, *arguments: str) -> Path:
    """A run of one epoch on the digits."""
    done = run_command(
        str(REPOSITORY / "train.py"),
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
