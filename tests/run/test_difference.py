"""`python -m vae.diff` says in what two runs differ, and nothing else."""

import shutil
from pathlib import Path

import pytest

from commands import call_command, metrics_of, train_quickly
from vae.checks import ConfigError
from vae.run.difference import differences
from vae.run.directory import RunDirectory


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("runs")
    return train_quickly(folder / "one"), train_quickly(folder / "two", "likelihood.sigma=0.3", "optimizer=adamw")


def test_keys_and_numbers_stand_side_by_side(runs: tuple[Path, Path]) -> None:
    one, two = runs
    rows = {row.what: row for row in differences(RunDirectory(one), RunDirectory(two))}
    keys = [what for what in rows if what and "/" not in what and what not in metrics_of(one)]
    assert keys == ["likelihood.sigma", "optimizer._target_", "optimizer.weight_decay"]
    assert rows["likelihood.sigma"][1:3] == ("0.15", "0.3")
    elbo = rows["test/elbo"]
    difference = metrics_of(two)["test/elbo"] - metrics_of(one)["test/elbo"]
    assert float(elbo.more) == pytest.approx(difference, rel=1e-5)
    assert set(metrics_of(one)) <= set(rows)


def test_a_copy_differs_in_nothing_and_another_commit_is_named(runs: tuple[Path, Path], tmp_path: Path) -> None:
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    rows = differences(RunDirectory(runs[0]), RunDirectory(copy))
    assert {row.what for row in rows[1:]} == set(metrics_of(copy))
    (copy / ".hydra" / "origin.json").write_text('{"commit": "abc"}')
    assert "origin: commit" in {row.what for row in differences(RunDirectory(runs[0]), RunDirectory(copy))}


def test_the_command(runs: tuple[Path, Path], tmp_path: Path) -> None:
    done = call_command("vae.diff.__main__", *map(str, runs), folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split() == ["one", "two", "second", "−", "first"]
    assert any(line.split() == ["likelihood.sigma", "0.15", "0.3"] for line in done.stdout.splitlines())
    refused = call_command("vae.diff.__main__", str(runs[0]), str(tmp_path), folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: {tmp_path}: not a run directory")
    assert call_command("vae.diff.__main__", folder=tmp_path).stderr.startswith("usage: ")


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not a run directory"):
        differences(RunDirectory(tmp_path), RunDirectory(tmp_path))
