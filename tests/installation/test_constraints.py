"""What `make` installs: exact versions that go with pyproject.toml, or others for who asks for them."""

import re
import shutil
import subprocess
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from commands import REPOSITORY

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
EXTRAS = {name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name != "bench"}
"""All but one: pythae is only measured beside, and asks for packages of Python 3.6."""
WANTED = [Requirement(text) for text in sorted({*PROJECT["dependencies"], *chain(*EXTRAS.values())})]
LINES = [line for line in (REPOSITORY / "constraints.txt").read_text().splitlines() if not line.startswith("#")]


def test_every_constraint_is_one_version_from_wherever_pip_finds_it() -> None:
    for line in LINES:
        assert re.fullmatch(r"[a-z0-9.-]+==[0-9][0-9a-z.]*( ; .+)?", line), line


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
def test_what_is_wanted_is_constrained_to_a_version_that_is_allowed(wanted: Requirement) -> None:
    pinned = [Requirement(line) for line in LINES]
    versions = [p for p in pinned if canonicalize_name(p.name) == canonicalize_name(wanted.name)]
    assert versions, "make constraints chooses anew"
    for version in versions:
        (exactly,) = version.specifier
        assert exactly.version in wanted.specifier, f"{version}: make constraints chooses anew"


@pytest.mark.parametrize("wanted", WANTED, ids=lambda wanted: wanted.name)
def test_every_dependency_has_a_lowest_and_an_upper_version(wanted: Requirement) -> None:
    assert sorted(specifier.operator for specifier in wanted.specifier) == ["<", ">="]


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
@pytest.mark.parametrize(
    ("choices", "command"),
    [
        ([], "pip --disable-pip-version-check install --constraint constraints.txt -e '.[dev]'"),
        (["CONSTRAINTS="], "pip --disable-pip-version-check install -e '.[dev]'"),
        (["TORCH=cpu"], "--torch-backend=cpu --constraint constraints.txt -e '.[dev]'"),
    ],
    ids=["as tested", "as pip resolves", "for the CPU"],
)
def test_make_installs(choices: list[str], command: str, tmp_path: Path) -> None:
    make = ["make", "--dry-run", "setup", f"VENV={tmp_path / 'venv'}", *choices]
    said = subprocess.run(make, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    assert command in " ".join(said.replace("\\\n", " ").split())
    assert said.index("Installing into") < said.index("install")
