"""The ranks of a run end together, and say first what was first."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta

import torch.distributed
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
            line = describe_loss(exception, trainer) if lost is None else describe_end(*lost)
            if line:
                print(line, file=sys.stderr, flush=True)
        for process in launched:
            process.kill()
        for process in launched:
            process.wait()
        if not said:
            raise SystemExit(1) from exception


def first_to_end(processes: list[subprocess.Popen[bytes]], patience: float) -> tuple[int, int] | None:
    """Return the rank and the status of a process that has failed, or does within `patience` seconds."""
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
    """Return a line on a rank that was killed; nothing on one that ended with an error, as it has said so
    itself.
    """
    if status > 0:
        return ""
    return f"error: rank {rank} was killed by {signal.Signals(-status).name} (out of memory, perhaps)"


def describe_loss(error: BaseException, trainer: Trainer) -> str:
    """Return the line of an error, in plain words where it is only what follows from the end of another host."""
    if trainer.num_nodes > 1 and isinstance(error, RuntimeError) and any(sign in str(error) for sign in LOST):
        return f"error: the connection to another rank was lost: its process or host has ended; {go_on(trainer)}"
    return error_line(error, sys.argv[1:])


LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Connection refused", "Timed out")
"""What gloo and NCCL say of it, among much else."""


def go_on(trainer: Trainer) -> str:
    """Return what to type when a run of several hosts has ended early."""
    return f"the same command with {shlex.quote(f'resume={trainer.default_root_dir}')} goes on"


SILENCE = 120.0
"""Seconds without a sign of life after which a rank on another host is given up. A host that was cut off and comes
back is heard of again within about twice the time that it was away."""


class NoticeLostHosts(Callback):
    """Ends this rank when nothing was heard of another one for long, or of the first, who keeps the signs of life.

    A host that is switched off closes no connection: what waits for its share of a sum would wait for half an
    hour, PyTorch's timeout, which must be that long as a rank may have much to do by itself. A thread has not.
    """

    def __init__(self) -> None:
        self.within_a_stage = False
        self._heard = dict[int, float]()
        self._hosts = dict[int, str]()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.within_a_stage = True
        if not self._heard:
            self._heard = dict.fromkeys(range(trainer.world_size), time.monotonic())
            for work in (self._exchange, self._judge):
                threading.Thread(target=work, args=(trainer,), daemon=True, name=work.__name__).start()
        self._heard.update(dict.fromkeys(self._heard, time.monotonic()))

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.within_a_stage = False

    def _exchange(self, trainer: Trainer) -> None:
        """Give signs of life and take those of the others, through a connection of this thread's own."""
        ours, last = trainer.global_rank, dict[int, str]()
        while True:
            try:
                store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
                    os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False,
                    wait_for_workers=False, timeout=timedelta(seconds=SILENCE / 4),
                )  # fmt: skip
                for number in range(1 << 62):
                    store.set(f"vae/alive/{ours}", f"{number} {socket.gethostname()}")
                    for rank in self._heard:
                        sign = store.get(f"vae/alive/{rank}").decode()
                        if sign != last.get(rank):
                            last[rank], self._heard[rank] = sign, time.monotonic()
                            self._hosts[rank] = sign.partition(" ")[2]
                    time.sleep(SILENCE / 24)
            except RuntimeError:  # torch's, of whatever is wrong with a connection
                time.sleep(1)

    def _judge(self, trainer: Trainer) -> None:
        while True:
            time.sleep(1)
            silent = {rank: time.monotonic() - heard for rank, heard in self._heard.items()}
            silent.pop(trainer.global_rank)
            rank = max(silent, key=lambda rank: silent[rank])
            if self.within_a_stage and silent[rank] > SILENCE:
                host = self._hosts.get(rank, "another host")
                print(
                    f"error: nothing was heard of rank {rank} on {host} for {SILENCE:.0f} s; {go_on(trainer)}",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)
