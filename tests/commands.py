"""The commands, as a user runs them: mostly in processes of their own, on the digits, and what they leave."""

import contextlib
import importlib
import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from hydra.core.global_hydra import GlobalHydra

REPOSITORY = Path(__file__).resolve().parents[1]
TRAIN = str(REPOSITORY / "train.py")
QUICK = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "network.hidden_sizes=[32]", "latent_size=2"]
TWO_RANKS = ["trainer.devices=2", "trainer.strategy=ddp"]


class ForkServer:
    """The process that forks, started when it is first asked."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None

    def run(
        self,
        module: str,
        arguments: list[str],
        folder: Path,
        environment: dict[str, str],
        timeout: float,
        place: Path,
    ) -> tuple[int, str, str]:
        """The exit status of a command, and what it printed on stdout and stderr.

        Args:
            module: whose `main` it is.
            arguments: sys.argv.
            folder: in which it runs.
            environment: all of it.
            timeout: in seconds.
            place: a folder for what it prints.

        Raises:
            TimeoutExpired: see above.
        """
        out, err = place / "out", place / "err"
        for file in (out, err):
            file.write_bytes(b"")
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, str(REPOSITORY / "tests" / "fork_server.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environment,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        asked = {
            "command": [module, arguments],
            "folder": str(folder),
            "environment": environment,
            "timeout": timeout,
            "out": str(out),
            "err": str(err),
        }
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        status = json.loads(self._process.stdout.readline())
        if status is None:
            raise subprocess.TimeoutExpired(arguments, timeout, out.read_bytes(), err.read_bytes())
        return status, out.read_text(), err.read_text()


SERVER = ForkServer()


def user_environment(**more: str) -> dict[str, str]:
    """The environment without what pytest has added; conftest.py took away what the machine sets for its user."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")} | more


def run_command(
    *command: str, folder: Path = REPOSITORY, timeout: float = 900, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run Python with these arguments, in a folder, with more in its environment.

    Nothing that is only read when libraries are imported may be in the environment of a command of the project's.
    """
    module = module_of(command[:2])
    if module and not environment:
        file = importlib.util.find_spec(module).origin  # type: ignore[union-attr]
        arguments = [TRAIN, *command[1:]] if command[0] == TRAIN else [str(file), *command[2:]]
        with tempfile.TemporaryDirectory() as place:
            ended = SERVER.run(module, arguments, folder, user_environment(), timeout, Path(place))
        return subprocess.CompletedProcess(command, *ended)
    return subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        env=user_environment(**environment),
        cwd=folder,
        timeout=timeout,
        check=False,
    )


def module_of(command: Sequence[str]) -> str | None:
    """The module whose `main` a command calls; None if it is not one of the project's."""
    if command[0] == TRAIN:
        return "vae.train"
    if command[0] != "-m" or not command[1].startswith("vae."):
        return None
    is_package = importlib.util.find_spec(command[1]).submodule_search_locations  # type: ignore[union-attr]
    return f"{command[1]}.__main__" if is_package else command[1]


def run_train(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run train.py as a user would."""
    return run_command(TRAIN, *arguments, **environment)


def train_quickly(run: Path, *arguments: str) -> Path:
    """A run of one epoch on the digits."""
    done = run_train(
        "trainer.max_epochs=1",
        "trainer.accelerator=cpu",
        *([] if "network=conv" in arguments else ["network.hidden_sizes=[32]"]),
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
