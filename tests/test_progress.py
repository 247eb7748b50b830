"""What is shown while a command works: shares, times, and lines that come as time passes and not as work does."""

import io
import os
import pty
import re
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig

from commands import run_train, user_environment
from vae import progress
from vae.callback.training_progress import TrainingProgress
from vae.progress import Display, Task, duration, task, through
from vae.training.build import build_module, build_trainer


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """A clock that only moves when it is told to, and no tasks of another test."""
    now = [100.0]

    def wait(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(progress, "_tasks", [])
    return wait


def test_a_line_says_how_much_for_how_long_and_how_long_it_will_take(clock: Callable[[float], None]) -> None:
    display = Display(io.StringIO())
    assert display.line() == "starting (0 s)"
    with task("testing", 4) as testing:
        clock(10)
        assert display.line() == "  0% testing (10 s)"
        testing.advance()
        assert display.line() == " 25% testing (10 s, 30 s left)"
        with task("nll", 200):
            # A part of what is inside counts as a part of a unit of what is outside.
            progress.advance(100)
            assert display.line() == " 38% testing, nll (10 s, 17 s left)"
    clock(5)
    assert display.line() == "finishing (15 s)"


def test_what_was_done_before_a_run_is_resumed_took_no_time(clock: Callable[[float], None]) -> None:
    share = [0.5]
    one = Task("training", look=lambda: (share[0], "epoch 31/60", "elbo 3.00"))
    share[0] = 0.75
    clock(10)
    assert one.seconds_left(0.75) == pytest.approx(10)


def test_ending_a_task_ends_what_is_within_it(clock: Callable[[float], None]) -> None:
    outer = progress.begin(Task("outer"))
    progress.begin(Task("inner"))
    progress.end(outer)
    progress.end(outer)
    assert Display(io.StringIO()).line().startswith("starting")
    assert list(through("ab", "letters", 2)) == ["a", "b"]


def test_lines_come_though_no_work_is_counted_and_end_with_the_command() -> None:
    out, enough = io.StringIO(), threading.Event()

    class Counting(io.StringIO):
        def write(self, text: str) -> int:
            if out.write(text) and out.getvalue().count("\n") >= 3:
                enough.set()
            return len(text)

    with Display(Counting(), seconds=0.01), task("thinking"):
        assert enough.wait(60)
    before = out.getvalue()
    assert re.fullmatch(r"((starting|thinking) \(\d+ s\)\n)+", before)
    assert not any(thread.name == "progress" for thread in threading.enumerate())


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("VAE_PROGRESS", "off")
    with progress.shown():
        progress.say("nothing")
    assert capsys.readouterr() == ("", "")
    monkeypatch.delenv("VAE_PROGRESS")
    with progress.shown(sys.stdout):
        progress.say("something")
    assert capsys.readouterr() == ("something\n", "")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (120, "2 min"), (7500, "2 h 5 min"), (float("inf"), "–")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


class Shares(Callback):
    """Notes what is shown at the end of each epoch, and of each validation batch."""

    def __init__(self, shown: TrainingProgress):
        self.shown, self.shares, self.lines = shown, [], []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.shares.append(self.shown._share(trainer))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.lines.append(Display(io.StringIO()).line())


@pytest.mark.parametrize("at_once", [1, 4])
@pytest.mark.parametrize(
    ("length", "epochs", "shares"),
    [
        (["trainer.max_epochs=4"], "2/4", [0.25, 0.5, 0.75, 1]),
        (["trainer.max_epochs=-1", "trainer.max_steps=76"], "2", [0.25, 0.5, 0.75, 1]),
    ],
)
def test_the_share_of_a_training(
    composed: Callable[..., DictConfig], at_once: int, length: list[str], epochs: str, shares: list[float]
) -> None:
    small = ("callback=none", "logger=csv", "network.hidden_sizes=[8]", f"steps_at_once={at_once}")
    config = composed(*length, *small)
    trainer, data = build_trainer(config), instantiate(config.data)
    shown = TrainingProgress()
    noted = Shares(shown)
    trainer.callbacks = [shown, noted, *trainer.callbacks]
    trainer.fit(build_module(config, data, trainer), data)
    assert noted.shares == pytest.approx(shares)
    numbers = r"elbo \S+ rate \S+ distortion \S+ val/elbo (\S+) best \1 \(epoch 2\)"
    # Of the epoch the numbers are those of the one before: it has not been logged yet.
    assert re.fullmatch(rf" 50% epoch {epochs} \(.*\)  {numbers}", noted.lines[1]), noted.lines


def test_a_run_prints_its_epochs_where_there_is_no_terminal(tmp_path: Path) -> None:
    done = run_train(
        *("trainer.max_epochs=2", "network.hidden_sizes=[8]", "logger=csv", "callback.pictures=null"),
        *("trainer.accelerator=cpu", f"hydra.run.dir={tmp_path / 'run'}"),
        VAE_PROGRESS="on",
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"^epoch 2/2 elbo \S+ rate \S+ distortion \S+ val/elbo \S+ best ", done.stdout, re.MULTILINE)
    assert "\x1b" not in done.stdout


def test_a_terminal_has_a_line_that_moves_and_vanishes(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    environment = user_environment(VAE_PROGRESS="on", TERM="xterm", COLUMNS="100")
    command = [sys.executable, "-m", "vae.features", "data=digits", "steps=200", f"paths.weights={tmp_path}"]
    process = os.posix_spawn(
        sys.executable, command, environment, file_actions=[(os.POSIX_SPAWN_DUP2, slave, n) for n in (0, 1, 2)]
    )
    os.close(slave)
    text = b""
    try:
        while part := os.read(master, 4096):
            text += part
    except OSError:
        pass  # so a terminal ends on Linux
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0, text.decode()
    shown = text.decode()
    assert "training a classifier" in shown
    assert "━" in shown
    assert "features_digits.pt: tells" in shown
    assert shown.count("\x1b[?25l") == shown.count("\x1b[?25h") == 1  # the cursor is given back
