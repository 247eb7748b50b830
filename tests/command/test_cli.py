"""Errors are one line, or tracebacks for who asks for them: in a command, and in the processes that it starts."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser
from omegaconf import DictConfig, OmegaConf

from commands import call_command, run_command
from vae.command.command import STAND_ALONE, TAKES_A_VALUE, at_home, flags_first, quote_argument, short_id
from vae.command.schema import check_composed
from vae.run.directory import RunDirectory

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


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("seed=1 --cfg job latent_size=2", "--cfg=job seed=1 latent_size=2"),
        ("seed=1 -c job latent_size=2", "--cfg=job seed=1 latent_size=2"),
        ("seed=1,2 -m latent_size=2 -cd own", "-m --config-dir=own seed=1,2 latent_size=2"),
        ("seed=1 --config-dir=own latent_size=2", "--config-dir=own seed=1 latent_size=2"),
        ("seed=1 --info latent_size=2", "--info seed=1 latent_size=2"),
        ("seed=1 --info config latent_size=2", "--info=config seed=1 latent_size=2"),
        ("seed=1 --unknown 2", "seed=1 --unknown 2"),
        ("seed=1 ~prior", "seed=1 ~prior"),
    ],
)
def test_flags_may_stand_between_overrides(typed: str, given: str) -> None:
    assert flags_first(["train.py", *typed.split()]) == ["train.py", *given.split()]


def test_the_flags_are_hydras() -> None:
    hydras = {option for action in get_args_parser()._actions for option in action.option_strings}
    assert hydras == {*STAND_ALONE, *TAKES_A_VALUE, *TAKES_A_VALUE.values()}


@pytest.mark.parametrize(
    ("typed", "given"),
    [
        ("paths.data=~/d", "paths.data='/home/me/d'"),
        ("paths.data=~/my d", "paths.data='/home/me/my d'"),
        ("hydra.run.dir=~", "hydra.run.dir='/home/me'"),
        ("paths.data=~/a,~/b", "paths.data='/home/me/a','/home/me/b'"),
        ("images=[~/a.png,b.png]", "images=['/home/me/a.png',b.png]"),
        ("--config-dir=~/own", "--config-dir=/home/me/own"),
        ("~prior", "~prior"),
        ("paths.data=a~/b", "paths.data=a~/b"),
        ("name=~nobody-of-that-name/x", "name=~nobody-of-that-name/x"),
        ('evaluate=["~metric.test.probe"]', 'evaluate=["~metric.test.probe"]'),
    ],
)
def test_a_home_is_meant_by_its_short_name(typed: str, given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert at_home(typed) == given


def test_so_it_is_in_the_environment_in_quotes_and_in_every_command(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, composed: Callable[..., DictConfig]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DATA_DIR", "~/d")
    config = composed("data=mnist", "paths.cache='~/c'")
    check_composed(config, "train")
    assert (config.data.path, config.paths.cache) == (f"{tmp_path}/d", f"{tmp_path}/c")
    assert RunDirectory("~/run").path == tmp_path / "run"
    assert quote_argument(["", "run=~/a,b"], "run") == ["", f"run='{tmp_path}/a,b'"]
    for module, argument in {
        "vae.train": "resume",
        "vae.evaluate": "run",
        "vae.sweep.report.__main__": "dir",
    }.items():
        done = call_command(module, f"{argument}=~/nothing", folder=tmp_path)
        assert done.returncode == 1
        assert f"{tmp_path}/nothing" in done.stderr


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


def test_a_short_id_is_text_to_every_reader() -> None:
    for _ in range(300):
        made = short_id()
        assert len(made) == 6
        assert OmegaConf.create(f"id: {made}").id == made
