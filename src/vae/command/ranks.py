"""The ranks of a run end together, and say first what was first."""

import signal
import subprocess
import sys
import time

from lightning import Callback, LightningModule, Trainer

from vae.command.error_line import WANTS_TRACEBACK, error_line
from vae.command.interruption import Interrupted

PATIENCE = 3.0
"""Seconds to wait for another rank's end to show, when this rank has lost the connection to it."""


class EndTogether(Callback):
    """At an error in one rank, ends the others, after the line that says what was wrong.

    Each rank says what happened before it lets go of the connections, whereupon the others fail: so the cause
    stands before its consequences. The process that started the ranks looks first whether one of them has ended.
    """

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        launched: list[subprocess.Popen[bytes]] = getattr(trainer.strategy.launcher, "procs", [])
        said = isinstance(exception, Interrupted) or WANTS_TRACEBACK
        if not said:
            # Whatever is wrong with a connection is a RuntimeError.
            lost = first_to_end(launched, PATIENCE if isinstance(exception, RuntimeError) else 0)
            line = error_line(exception, sys.argv[1:]) if lost is None else describe_end(*lost)
            if line:
                print(line, file=sys.stderr, flush=True)
        for process in launched:
            process.kill()
        for process in launched:
            process.wait()
        if not said:
            raise SystemExit(1) from exception


def first_to_end(processes: list[subprocess.Popen[bytes]], patience: float) -> tuple[int, int] | None:
    """The rank and the status of a process that has failed, or does within `patience` seconds."""
    deadline = time.monotonic() + patience
    while processes:
        for rank, process in enumerate(processes, start=1):
            if process.poll():
                return rank, process.returncode
        if time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return None


def describe_end(rank: int, status: int) -> str:
    """A line on a rank that was killed; nothing on one that ended with an error, as it has said so itself."""
    if status > 0:
        return ""
    return f"error: rank {rank} was killed by {signal.Signals(-status).name} (out of memory, perhaps)"
