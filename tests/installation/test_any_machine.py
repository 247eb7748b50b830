"""A sample of the tests on machines that are unlike the one where they were written."""

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest

from commands import REPOSITORY

SAMPLE = ["tests/test_train.py", "-k", "leaves_the_whole or numbers_add_up or wandb or says_where"]
LONGER = [f"tests/{name}" for name in ("command", "data", "run", "logger", "sweep/test_sweep.py", "test_train.py")]
SHORTER = [f"tests/{name}" for name in ("data", "run", "logger", "test_train.py")]
NOT_COPIED = ("", ".git", "runs", "multirun", "data", "cache", "weights", "wandb", "dist")
NOBODY = 54321
"""A user whom the machine does not know."""
NOWHERE = "/proc/nonexistent"
OF_THE_USER = {
    "HOME": f"{NOWHERE}/home",
    "DATA_DIR": f"{NOWHERE}/data",
    "CACHE_DIR": f"{NOWHERE}/cache",
    "WANDB_MODE": "disabled",
    "WANDB_API_KEY": "0" * 40,
    "WANDB_PROJECT": "theirs",
    "WANDB_DIR": f"{NOWHERE}/w",
    "SLURM_JOB_ID": "17",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "2",
    "SLURM_NODEID": "0",
    "MASTER_ADDR": "elsewhere",
    "MASTER_PORT": "1",
    "WORLD_SIZE": "8",
    "RANK": "3",
    "LOCAL_RANK": "3",
    "HYDRA_FULL_ERROR": "1",
    "OMP_NUM_THREADS": "7",
    "MPLBACKEND": "tkagg",
    "PYTHONWARNINGS": "always",
    "TZ": "Pacific/Chatham",
    "COLUMNS": "30",
    "FORCE_COLOR": "1",
}


@pytest.fixture
def clone() -> Iterator[Path]:
    """A copy of the sources in a folder that is difficult to name, where any user may look."""
    above = Path(mkdtemp(prefix="vae-"))  # pytest's own folder shows its contents to nobody else
    above.chmod(0o755)
    folder = above / "it's a clöne"
    try:
        for path in REPOSITORY.iterdir():
            if path.name.startswith(".") or path.name in NOT_COPIED:
                continue
            if path.is_dir():
                shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                folder.mkdir(exist_ok=True)
                shutil.copy(path, folder)
        yield folder
    finally:
        shutil.rmtree(above)


@pytest.fixture
def programs(tmp_path: Path) -> str:
    """A PATH on which there is SLURM's srun, and no git."""
    srun = tmp_path / "bin" / "srun"
    srun.parent.mkdir()
    srun.write_text("#!/bin/sh\nexit 1\n")
    srun.chmod(0o755)
    (srun.parent / "sh").symlink_to("/bin/sh")
    return str(srun.parent)


def run_tests(clone: Path, *tests: str, environment: dict[str, str], **options: Any) -> str:
    """Run tests of the clone in a process with more in its environment; what they printed."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={clone.parent}/tmp", *tests],
        cwd=clone,
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=3600,  # of the longest sample on a busy machine
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    return done.stdout


def test_what_the_user_has_set_reaches_no_test(clone: Path, programs: str) -> None:
    """Nor do a login node's srun, a missing home, git, or core."""

    def one_core() -> None:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

    environment = OF_THE_USER | {"PATH": programs}
    run_tests(clone, *SAMPLE, environment=environment, umask=0o077, preexec_fn=one_core)


@pytest.mark.slow
def test_the_same_for_more_of_the_tests(clone: Path, programs: str) -> None:
    run_tests(clone, *LONGER, environment=OF_THE_USER | {"PATH": programs}, umask=0o077)


@pytest.mark.slow
def test_any_user_can_run_them_but_need_not_be_known(clone: Path, programs: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    someone = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
    try:
        subprocess.run([sys.executable, "-c", "import torch"], capture_output=True, check=True, **someone)
    except (PermissionError, subprocess.CalledProcessError):
        pytest.skip(f"another user may not use {sys.executable}")
    for path in (clone.parent, *clone.rglob("*"), clone):
        os.chown(path, NOBODY, NOBODY)
    run_tests(clone, *LONGER, environment={"HOME": "/", "PATH": programs}, **someone)


@pytest.mark.slow
def test_in_a_locale_that_is_not_utf8(clone: Path, tmp_path: Path) -> None:
    """And whose i is no I in capitals."""
    made = ["localedef", "-i", "tr_TR", "-f", "ISO-8859-9", str(tmp_path / "tr_TR.ISO-8859-9")]
    if shutil.which("localedef") is None or subprocess.run(made, capture_output=True, check=False).returncode:
        pytest.skip("no sources of locales to make one of")
    environment = {"LOCPATH": str(tmp_path), "LC_ALL": "tr_TR.ISO-8859-9", "PYTHONUTF8": "0"}
    plain = clone.rename(clone.parent / "clone")  # no name in UTF-8, which would be another one
    run_tests(plain, *SHORTER, environment=environment)


@pytest.mark.slow
def test_on_64_cores(clone: Path) -> None:
    (clone / "many_cores.py").write_text(
        "import os\nos.cpu_count = lambda: 64\nos.sched_getaffinity = lambda process: set(range(64))\n"
    )
    run_tests(clone, "-p", "many_cores", *SHORTER, environment={"PYTHONPATH": str(clone)})


def text_files_of_the_locale(source: str) -> list[int]:
    """The lines on which a text file is opened without its encoding."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(keyword.arg in ("encoding", None) for keyword in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
        opens = name == "open" and not ast.unparse(node.func).startswith(("Image.", "os.", "self.", "webbrowser."))
        if name in ("read_text", "write_text") or (opens and not any("b" in mode for mode in modes)):
            found.append(node.lineno)
    return found


def test_no_file_of_ours_depends_on_the_locale() -> None:
    example = "open(p)\np.open('w')\np.read_text()\np.open('rb')\nImage.open(p)\nopen(p, encoding=e)"
    assert text_files_of_the_locale(example) == [1, 2, 3]
    for folder in ("src", "benchmarks"):
        for file in (REPOSITORY / folder).rglob("*.py"):
            assert text_files_of_the_locale(file.read_text(encoding="utf-8")) == [], file
