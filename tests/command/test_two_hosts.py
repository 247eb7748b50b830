"""A run over two hosts, which are network namespaces of this machine: cut off, killed, switched off, resumed."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from commands import QUICK, TRAIN, TWO_RANKS, run_command, timeless, user_environment

IP = shutil.which("ip", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
RUN = [*QUICK, "logger=csv", "trainer.max_epochs=200", "callback.pictures=null"]
TWO_HOSTS = "trainer.num_nodes=2"
PORT = 29417


def ip(*arguments: str) -> None:
    subprocess.run([str(IP), *arguments], check=True, capture_output=True)


def may_make_hosts() -> bool:
    if IP is None or os.geteuid():
        return False
    done = subprocess.run([IP, "netns", "add", "vae-try"], capture_output=True, check=False)
    subprocess.run([IP, "netns", "del", "vae-try"], capture_output=True, check=False)
    return done.returncode == 0


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not may_make_hosts(), reason="needs root, iproute2 and the right to make network namespaces"
    ),
]


@pytest.fixture
def hosts() -> Iterator[tuple[str, str]]:
    """Two hosts with a cable between them; their names."""
    names = (f"vae-a{os.getpid()}", f"vae-b{os.getpid()}")
    try:
        for name in names:
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "cable", "netns", names[0], "type", "veth", "peer", "name", "cable", "netns", names[1])
        for number, name in enumerate(names, start=1):
            ip("-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "cable")
            ip("-n", name, "link", "set", "cable", "up")
        yield names
    finally:
        for name in names:
            subprocess.run([str(IP), "netns", "del", name], check=False, capture_output=True)


def start(hosts: Sequence[str], *arguments: str, folder: Path) -> list[subprocess.Popen[str]]:
    """The same command on both hosts, as it is typed there."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    torchrun += ["--master-addr=10.77.0.1", f"--master-port={PORT}"]
    return [
        subprocess.Popen(
            [
                str(IP),
                "netns",
                "exec",
                host,
                *torchrun,
                f"--node-rank={rank}",
                TRAIN,
                *arguments,
            ],
            env=user_environment(GLOO_SOCKET_IFNAME="cable"),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, host in enumerate(hosts)
    ]


def rank_of(torchrun: subprocess.Popen[str]) -> int:
    """The process that trains on a host."""
    children = Path(f"/proc/{torchrun.pid}/task/{torchrun.pid}/children").read_text().split()
    return int(children[0])


def wait_for(found: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@contextmanager
def running(hosts: Sequence[str], *arguments: str, folder: Path) -> Iterator[list[subprocess.Popen[str]]]:
    processes = start(hosts, *arguments, folder=folder)
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_two_hosts_of_which_one_is_cut_off_killed_and_switched_off(hosts: tuple[str, str], tmp_path: Path) -> None:
    def run() -> Path:
        (found,) = (tmp_path / "runs" / "digits").iterdir()
        return found

    def trained() -> int:
        return (run() / "metrics.csv").stat().st_size

    def has_begun() -> bool:
        return bool(list(tmp_path.glob("runs/digits/*/checkpoints/last.ckpt")))

    def errors(process: subprocess.Popen[str], seconds: float) -> list[str]:
        _, err = process.communicate(timeout=seconds)
        return [line for line in err.splitlines() if line.startswith("error: ")]

    # Cut off for half a minute: the run stands still, and goes on. Then the process of one host is killed.
    with running(hosts, *RUN, TWO_HOSTS, folder=tmp_path) as (first, second):
        wait_for(has_begun)
        ip("-n", hosts[1], "link", "set", "cable", "down")
        time.sleep(5)
        stood = trained()
        time.sleep(25)
        assert trained() == stood
        ip("-n", hosts[1], "link", "set", "cable", "up")
        wait_for(lambda: trained() > stood + 1000)
        os.kill(rank_of(second), 9)
        (line,) = errors(first, 60)
    assert line.startswith("error: the connection to another rank was lost: its process or host has ended; ")
    assert f"resume={run()} goes on" in line

    # Switched off: no connection is closed.
    stood = trained()
    with running(hosts, f"resume={run()}", folder=tmp_path) as (first, second):
        wait_for(lambda: trained() != stood)
        ip("-n", hosts[0], "link", "set", "cable", "down")
        os.kill(rank_of(second), 9)
        second.kill()
        (line,) = errors(first, 180)
    assert line.startswith("error: nothing was heard of rank 1 on ")
    assert f"resume={run()} goes on" in line
    ip("-n", hosts[0], "link", "set", "cable", "up")

    with running(hosts, f"resume={run()}", folder=tmp_path) as (first, _):
        out, err = first.communicate(timeout=900)
        assert first.returncode == 0, out + err
    alone = run_command(TRAIN, *RUN, *TWO_RANKS, f"hydra.run.dir={tmp_path}/alone", folder=tmp_path, timeout=900)
    assert alone.returncode == 0, alone.stderr
    assert timeless(run()) == timeless(tmp_path / "alone")


def test_several_nodes_without_a_starter_are_one_line(tmp_path: Path) -> None:
    done = run_command(TRAIN, *QUICK, "trainer.num_nodes=2", folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: trainer.num_nodes=2: start the ranks on each node with torchrun, or ")
    assert done.stderr.count("\n") == 1
