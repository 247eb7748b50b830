"""train.py in forked processes, which need not import torch anew: a tiny run takes a second or two."""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig

from commands import TRAIN

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


def preload() -> None:
    """Import whatever a run imports, once, and start no thread."""
    import torch
    from sklearn.datasets import load_digits

    for name in ("vae.train", "vae.training.build", "vae.data.digits", "vae.run.directory"):
        importlib.import_module(name)

    torch.set_num_threads(1)
    load_digits()


def start(
    arguments: Sequence[str], log: Path, sabotage: Callable[[], None] | None = None, errors: Path | None = None
) -> "Forked":
    """`python train.py arguments` in a process group of its own, its output added to `log`.

    Args:
        arguments: of the command line.
        log: where its output goes.
        sabotage: called in the process before it starts.
        errors: where what it says on stderr goes; None for `log`.
    """

    def run() -> None:
        stand_alone(log, errors or log)
        fork_ranks()
        if sabotage is not None:
            sabotage()
        call_train([TRAIN, *arguments])

    return Forked(run)


def stand_alone(out: str | Path, err: str | Path) -> None:
    """Let a forked process have a group, signals and output of its own, as one that was started."""
    os.setsid()
    for signum in SIGNALS:
        signal.signal(signum, signal.default_int_handler if signum == signal.SIGINT else signal.SIG_DFL)
    for descriptor, file in ((1, out), (2, err)):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)


def call_train(argv: list[str]) -> None:
    """What `python train.py` does."""
    call_main("vae.train", argv)


def call_main(module: str, argv: list[str]) -> None:
    """What a command does that is a module's `main`: `python -m module`, or a program that calls it."""
    GlobalHydra.instance().clear()
    HydraConfig.instance().cfg = None
    # Further ranks are started in the same way.
    sys.modules["__main__"].__spec__ = None if argv[0] == TRAIN else find_spec(module)
    sys.argv = argv
    importlib.import_module(module).main()


def fork_ranks() -> None:
    """Have Lightning's launcher fork further ranks in place of starting a new Python for each."""
    from lightning.pytorch.strategies.launchers import subprocess_script

    class Popen:
        def __new__(cls, command: list[str], env: dict[str, str], cwd: str | None) -> "Forked":
            def rank() -> None:
                os.environ.clear()
                os.environ.update(env)
                call_train(command[1:])

            return Forked(rank)

    subprocess_script.subprocess = type("subprocess", (), {"Popen": Popen})  # type: ignore[assignment]


class Forked:
    """A forked process, with as much of Popen's interface as Lightning uses."""

    def __init__(self, function: Callable[[], None]):
        self.returncode: int | None = None
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os._exit(_status(function))

    def poll(self) -> int | None:
        """The status if it has ended, negative for a signal."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float = 120) -> int:
        """The status when it has ended.

        Raises:
            TimeoutError: it has not.
        """
        deadline = time.monotonic() + timeout
        while (status := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"process {self.pid} did not end within {timeout} s")
            time.sleep(0.005)
        return status

    def send_signal(self, signum: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, signum)

    def kill(self) -> None:
        """Kill it, unless it has ended."""
        self.send_signal(signal.SIGKILL)


def _status(function: Callable[[], Any]) -> int:
    """Call a function as a program's main would be, and return the program's exit status."""
    import traceback

    try:
        function()
        status = 0
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status


def group_members(group: int) -> list[int]:
    """The processes of a process group that are still there (Linux)."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[2]) == group and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found
