"""What a signal does to a run; that it loses nothing is reliability/torture.py's to show."""

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import subprocess
import sys
import termios
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from commands import QUICK, REPOSITORY, TRAIN, run_command, user_environment
from vae.command.interruption import SIGNALS, Interrupted, signals_interrupt
from vae.run.resume import progress


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """SLURM's scontrol, which notes what it is asked for; the file of its notes."""
    command, notes = tmp_path / "scontrol", tmp_path / "notes"
    command.write_text(f'#!/bin/sh\necho "$@" >> {notes}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    return notes


@pytest.fixture(autouse=True)
def no_signal_is_ignored() -> Iterator[None]:
    """As in a terminal: what a shell starts in the background ignores SIGINT, and what `nohup` starts SIGHUP."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)


def interrupt(signum: signal.Signals) -> Interrupted:
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signum)
            time.sleep(5)
    except Interrupted as ended:
        return ended
    raise AssertionError("the signal did nothing")


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_ends_the_run_with_its_status(name: str) -> None:
    before = [signal.getsignal(signal.Signals[n]) for n in SIGNALS]
    ended = interrupt(signal.Signals[name])
    assert (ended.name, ended.code) == (name, 128 + signal.Signals[name])
    assert [signal.getsignal(signal.Signals[n]) for n in SIGNALS] == before


def test_under_nohup_a_run_goes_on_when_the_terminal_is_closed() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with signals_interrupt():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_slurm_is_asked_to_start_the_job_again(slurm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupt(signal.SIGTERM)
    assert not slurm.exists()
    interrupt(signal.SIGUSR1)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "16")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    interrupt(signal.SIGUSR1)
    # Once a job, whatever the number of its ranks.
    monkeypatch.setenv("SLURM_PROCID", "1")
    interrupt(signal.SIGUSR1)
    assert slurm.read_text().splitlines() == ["requeue 17", "requeue 16_3"]


def test_where_slurm_does_not_answer_the_run_ends_all_the_same(
    slurm: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (slurm.parent / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    assert interrupt(signal.SIGUSR1).code == 128 + signal.SIGUSR1
    assert capsys.readouterr().err.startswith("warning: SLURM did not requeue job 17 (")


@pytest.mark.parametrize("library", ["hydra", "torch"])
def test_a_signal_that_comes_while_libraries_are_imported_asks_slurm_to_start_the_job_again(
    library: str, slurm: Path, tmp_path: Path
) -> None:
    signals = "import os, signal, time; os.kill(os.getpid(), signal.SIGUSR1); time.sleep(60)"
    (tmp_path / f"{library}.py").write_text(signals)
    done = run_command(TRAIN, *QUICK, folder=tmp_path, PYTHONPATH=f"{tmp_path}:{os.environ['PYTHONPATH']}")
    assert done.returncode == 128 + signal.SIGUSR1
    assert slurm.read_text() == "requeue 17\n"
    assert done.stderr == "SIGUSR1: stopped; nothing was saved\n"


def test_a_run_whose_terminal_is_closed_ends_and_goes_on_when_resumed(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [sys.executable, TRAIN, *QUICK, "logger=csv", "trainer.max_epochs=3000", f"hydra.run.dir={tmp_path}"]
    with subprocess.Popen(
        command, env=user_environment(), stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    ) as process:  # fmt: skip
        os.close(theirs)
        deadline = time.monotonic() + 120
        while not (tmp_path / "checkpoints" / "last.ckpt").exists():
            assert time.monotonic() < deadline
            if select.select([ours], [], [], 0.05)[0]:
                os.read(ours, 65536)
        os.close(ours)
        assert process.wait(60) == 128 + signal.SIGHUP
    more = progress(tmp_path / "checkpoints" / "last.ckpt").epochs + 1
    done = run_command(TRAIN, f"resume={tmp_path}", f"trainer.max_epochs={more}", folder=tmp_path.parent)
    assert done.returncode == 0, done.stderr


START = f"""
import runpy, sys
from vae.command.interruption import signals_interrupt
print("begins", flush=True)
sys.argv = [{TRAIN!r}, *sys.argv[1:]]
runpy.run_path({TRAIN!r}, run_name="__main__")
"""


@pytest.mark.parametrize("seconds", [0.5, 2, 5])
@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_is_told_in_one_line(
    seconds: float, signum: signal.Signals, tmp_path: Path
) -> None:
    run = subprocess.Popen(
        [
            sys.executable,
            "-c",
            START,
            *QUICK,
            "trainer.max_epochs=100000",
            "logger=csv",
            f"hydra.run.dir={tmp_path}",
        ],
        env=user_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert run.stdout is not None
    run.stdout.readline()
    time.sleep(seconds)
    run.send_signal(signum)
    _, said = run.communicate(timeout=120)
    assert run.returncode == 128 + signum
    assert re.fullmatch(rf"{signum.name}: stopped; .*\n", said), said


KILL = "os.kill(os.getpid(), signal.SIGINT)"
RAISED = [
    f"{KILL}\n",
    # As OmegaConf's, or an import's that is only tried.
    f"try:\n    {KILL}\nexcept BaseException as error:\n    raise ValueError('no such thing') from error\n",
    f"try:\n    {KILL}\nexcept BaseException:\n    pass\ntime.sleep(5)\n",
]


@pytest.mark.parametrize("raised", RAISED, ids=["as it is", "made an error", "swallowed"])
@pytest.mark.parametrize("program", [["-m", "vae.sample"], ["-m", "vae.train"], [TRAIN]])
def test_a_signal_while_the_libraries_are_imported_is_one_line(
    program: list[str], raised: str, tmp_path: Path
) -> None:
    (tmp_path / "hydra").mkdir()
    (tmp_path / "hydra" / "__init__.py").write_text(f"import os, signal, time\n{raised}")
    done = run_command(*program, PYTHONPATH=f"{tmp_path}:{REPOSITORY / 'src'}")
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "SIGINT: stopped; nothing was saved\n")


def test_a_signal_that_a_library_turns_into_an_error_is_a_signal_all_the_same(tmp_path: Path) -> None:
    """As OmegaConf may do where it comes while an interpolation is resolved."""
    turned = """
import os, signal, sys
from omegaconf import OmegaConf
def interrupted(config):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException as error:
        raise ValueError("unsupported interpolation type") from error
OmegaConf.resolve = interrupted
"""
    program = f"{turned}\nimport vae.train\nsys.argv[0] = {TRAIN!r}\nvae.train.main()\n"
    done = run_command("-c", program, *QUICK, f"hydra.run.dir={tmp_path}")
    assert (done.returncode, done.stderr) == (130, done.stderr)
    assert re.fullmatch(r"SIGINT: stopped; .*\n", done.stderr), done.stderr


class Finalized:
    def __init__(self, then: Callable[[], None]):
        self.then = then

    def __del__(self) -> None:
        self.then()


def _in_a_finalizer(send: Callable[[], None]) -> None:
    Finalized(send)


def _in_a_callback(send: Callable[[], None]) -> None:
    watched = Finalized(lambda: None)
    weakref.finalize(watched, send)


def _where_all_is_caught(send: Callable[[], None]) -> None:
    with contextlib.suppress(BaseException):
        send()


def _where_it_becomes_an_error_that_is_caught(send: Callable[[], None]) -> None:
    with contextlib.suppress(ValueError):
        try:
            send()
        except BaseException as error:
            raise ValueError("no such thing") from error


def swallow_and_go_on(swallow: Callable[[Callable[[], None]], None], send: Callable[[], None]) -> None:
    with signals_interrupt():
        swallow(send)
        time.sleep(5)


SWALLOWED = [_in_a_finalizer, _in_a_callback, _where_all_is_caught, _where_it_becomes_an_error_that_is_caught]


@pytest.mark.parametrize("swallow", SWALLOWED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_that_is_swallowed_is_raised_again(
    name: str, swallow: Callable[[Callable[[], None]], None], slurm: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def send() -> None:
        os.kill(os.getpid(), signal.Signals[name])
        time.sleep(0.01)

    before = sys.unraisablehook
    with pytest.raises(Interrupted) as ended:
        swallow_and_go_on(swallow, send)
    assert ended.value.name == name
    assert capfd.readouterr() == ("", "")
    assert sys.unraisablehook is before
    # What a signal does besides, it does once.
    assert slurm.exists() == (name == "SIGUSR1")
    assert not slurm.exists() or slurm.read_text() == "requeue 17\n"


def test_a_signal_that_was_obeyed_is_not_raised_again() -> None:
    with signals_interrupt():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except Interrupted as ended:
            ended.say("and that is that")
        time.sleep(0.1)
