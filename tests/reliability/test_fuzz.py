"""Short forms of `make fuzz`: command lines, damaged files, and runs of strangers."""

from pathlib import Path

import pytest

from commands import REPOSITORY, run_command
from reliability.fuzz_readers import READERS, fuzz


@pytest.mark.parametrize("name", READERS)
@pytest.mark.filterwarnings("ignore")
def test_damaged_files_give_the_right_data_or_one_line(name: str, tmp_path: Path) -> None:
    counts, wrong = fuzz(name, 100 if name.startswith("idx") else 300, seed=1, folder=tmp_path)
    assert not wrong
    assert counts["refused"] > 50


def test_a_command_line_runs_or_is_refused_in_one_line(tmp_path: Path) -> None:
    arguments = ["-m", "reliability.fuzz_config", "examples=8", "seed=3", f"folder={tmp_path}"]
    done = run_command(*arguments, folder=REPOSITORY / "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("; 0 wrong")


def test_a_strangers_run_or_sweep_has_no_effect() -> None:
    done = run_command("-m", "reliability.fuzz_strangers", "mutants=25", "seed=7", folder=REPOSITORY / "tests")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].endswith("; 0 with an effect")
