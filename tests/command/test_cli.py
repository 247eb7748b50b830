"""Errors are one line, or tracebacks for who asks for them: in a command, and in the processes that it starts."""

import os
import subprocess
from pathlib import Path

import pytest

from commands import run_command

PROGRAM = """
import subprocess, sys
from vae.command.command import command

CHILD = "import os; print('child:', os.environ.get('HYDRA_FULL_ERROR'))"

@command("train")
def main(config):
    subprocess.run([sys.executable, "-c", CHILD], check=True)
    raise ValueError("on purpose")

main()
"""


def run_program(folder: Path, *arguments: str, asked: str | None) -> subprocess.CompletedProcess[str]:
    """Run a command that starts a process and then fails; `asked` is the user's own HYDRA_FULL_ERROR."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    environment = {} if asked is None else {"HYDRA_FULL_ERROR": asked}
    return run_command(str(program), *arguments, "logger=csv", **environment)


@pytest.mark.parametrize("asked", [None, "0", "1"])
def test_a_process_that_a_command_starts_knows_only_what_the_user_asked_for(
    asked: str | None, tmp_path: Path
) -> None:
    done = run_program(tmp_path, f"hydra.run.dir={tmp_path / 'run'}", asked=asked)
    assert done.stdout == f"child: {asked}\n"
    assert done.returncode == 1
    if asked == "1":
        assert "Traceback" in done.stderr
        assert done.stderr.splitlines()[-1] == "ValueError: on purpose"
    else:
        assert done.stderr == "error: ValueError: on purpose (HYDRA_FULL_ERROR=1 shows where)\n"


@pytest.mark.parametrize("asked", [None, "1"])
def test_so_does_one_that_a_job_of_a_sweep_starts(asked: str | None, tmp_path: Path) -> None:
    done = run_program(tmp_path, "-m", "seed=1,2", f"hydra.sweep.dir={tmp_path / 'sweep'}", asked=asked)
    assert done.returncode == 1
    assert done.stdout.count(f"child: {asked}\n") == 2
    assert "2 jobs, 2 failed" in done.stdout
    assert "Traceback" in (tmp_path / "sweep" / "seed=1" / "output.log").read_text()


@pytest.mark.parametrize("flag", ["--info=config", "--cfg=job"])
def test_what_hydra_only_shows_ends_with_one_line_too(flag: str, tmp_path: Path) -> None:
    done = run_program(tmp_path, flag, "latent_sze=3", asked=None)
    assert done.returncode == 1
    assert done.stderr.startswith("error: latent_sze=3: no such key; did you mean latent_size=3?")
    assert len(done.stderr.splitlines()) == 1


def test_tracebacks_of_a_bad_key_are_for_who_asks(tmp_path: Path) -> None:
    done = run_program(tmp_path, "latent_sze=3", asked="1")
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_hydra_is_asked_within_the_process_and_not_by_its_environment() -> None:
    from hydra._internal import utils

    from vae.command.command import _exceptions_come_through

    before = dict(os.environ)
    with _exceptions_come_through():
        assert os.environ == before
        with pytest.raises(ZeroDivisionError):
            utils.run_and_report(lambda: 1 // 0)
    assert not utils._is_env_set("HYDRA_FULL_ERROR")
