"""A run says which sources trained it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from vae.run import origin
from vae.run.directory import RunDirectory
from vae.run.origin import commit, uncommitted


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


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_what_is_in_no_commit_is_a_patch_that_makes_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone, again = tmp_path / "clone", tmp_path / "again"
    (clone / "src").mkdir(parents=True)
    _git(clone, "init")
    assert uncommitted(clone, ["src"]) == ""
    (clone / "src" / "a.py").write_text("one\n")
    _git(clone, "add", "src")
    _git(clone, "commit", "-m", "one")
    assert uncommitted(clone, ["src"]) == ""
    _git(tmp_path, "clone", "clone", "again")
    (clone / "src" / "a.py").write_text("two\n")
    (clone / "src" / "naïve b.py").write_text("three\n")
    (clone / "notes.txt").write_text("are no source")
    (tmp_path / "patch").write_text(patch := uncommitted(clone, ["src"]))
    _git(again, "apply", "../patch")
    assert (again / "src" / "a.py").read_text() == "two\n"
    assert (again / "src" / "naïve b.py").read_text() == "three\n"
    assert not (again / "notes.txt").exists()
    run = RunDirectory(tmp_path / "run")
    run.write_origin({"commit": "abc+"}, patch)
    kept = run.origin()["changes"]
    assert (run.path / ".hydra" / kept).read_text() == patch
    monkeypatch.setattr(origin, "LARGEST", len(patch) - 5)
    assert uncommitted(clone, ["src"]).endswith("# left out: src/naïve b.py\n")


@pytest.mark.skipif(shutil.which("git") is None, reason="there is no git")
def test_a_trusted_package_has_its_commit_and_its_changes_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "her_parts"
    package.mkdir()
    (package / "__init__.py").write_text("")
    _git(tmp_path, "init")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-m", "one")
    (package / "prior.py").write_text("new\n")
    (tmp_path / "conf").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("VAE_TRUST", "her_parts,not_there")
    for each in (origin._own_packages, origin._loaded_changes):
        each.cache_clear()
    try:
        head = commit(tmp_path)
        assert origin._own_packages() == {"commit of her_parts": f"{head.removesuffix('+')}+"}
        assert "+new" in origin.changes()
    finally:
        for each in (origin._own_packages, origin._loaded_changes):
            each.cache_clear()


def test_a_resumed_run_names_all_of_its_sources(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for sources in ("abc", "abc", "def", None):
        run.write_origin({"commit": sources, "device": "CPU"})
    assert json.loads(run.origin_file.read_text()) == {"commit": "abc; def", "device": "CPU"}
    run.keep_images("", {"test": "360 images"})
    run.write_arguments(["likelihood.sigma=½", "'a b'"])
    run.write_origin({"commit": "def", "packages": {"torch": "2"}})
    assert run.arguments() == ["likelihood.sigma=½", "'a b'"]
    assert run.image_digests() == {"test": "360 images"}
    assert run.packages() == {"torch": "2"}
    assert run.origin() == {"commit": "abc; def"}
