"""A run says which sources trained it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from vae.run.directory import RunDirectory
from vae.run.origin import commit


def _git(folder: Path, *arguments: str) -> None:
    name = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *name, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_the_commit_and_whether_the_sources_have_changed_since(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    _git(tmp_path, "init")
    assert commit(tmp_path) is None  # nothing has been committed
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text("1")
    _git(tmp_path, "add", "src")
    _git(tmp_path, "commit", "-m", "one")
    head = commit(tmp_path)
    assert head is not None
    assert len(head) == 10
    (tmp_path / "notes.txt").write_text("are no source")
    assert commit(tmp_path) == head
    # A likelihood of one's own that is in no commit yet.
    (tmp_path / "src" / "b.py").write_text("1")
    assert commit(tmp_path) == head + "+"
    (tmp_path / "src" / "b.py").unlink()
    (tmp_path / "src" / "a.py").write_text("2")
    assert commit(tmp_path) == head + "+"


def test_a_resumed_run_names_all_of_its_sources(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for sources in ("abc", "abc", "def", None):
        run.write_origin({"commit": sources, "device": "CPU"})
    assert json.loads(run.origin_file.read_text()) == {"commit": "abc; def", "device": "CPU"}
