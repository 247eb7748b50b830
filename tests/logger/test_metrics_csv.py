"""metrics.csv holds every number once, and goes on where an interrupted run was."""

import csv
import os
from pathlib import Path

import pytest

from vae.logger.metrics_csv import MetricsCSV
from vae.page.curves import read_rows


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_numbers_of_one_step_share_a_row(tmp_path: Path) -> None:
    log = MetricsCSV(str(tmp_path / "metrics.csv"))
    log.log_metrics({"train/elbo": -3.0, "epoch": 0}, step=5)
    log.log_metrics({"val/elbo": -4.0, "epoch": 0}, step=5)
    log.log_metrics({"train/elbo": -2.0, "epoch": 1}, step=10)
    log.save()
    assert _rows(log.path) == [
        {"step": "5", "epoch": "0", "train/elbo": "-3.0", "val/elbo": "-4.0"},
        {"step": "10", "epoch": "1", "train/elbo": "-2.0", "val/elbo": ""},
    ]


def test_a_resumed_run_keeps_the_rows_up_to_its_checkpoint_and_no_later_ones(tmp_path: Path) -> None:
    log = MetricsCSV(str(tmp_path / "metrics.csv"))
    for step in (5, 10, 15):
        log.log_metrics({"train/elbo": -float(step)}, step)
    log.save()
    resumed = MetricsCSV(str(log.path))
    resumed.continue_after(10, 2)
    resumed.log_metrics({"train/elbo": 1.0}, step=15)
    resumed.save()
    assert [row["train/elbo"] for row in _rows(log.path)] == ["-5.0", "-10.0", "1.0"]


def test_nothing_is_written_before_there_is_something_and_no_part_is_left(tmp_path: Path) -> None:
    log = MetricsCSV(str(tmp_path / "run" / "metrics.csv"))
    log.save()
    assert not log.path.exists()
    log.log_metrics({"a": 1.0}, step=0)
    log.finalize("success")
    assert [path.name for path in log.path.parent.iterdir()] == ["metrics.csv"]


def logged(path: Path, steps: int) -> MetricsCSV:
    log = MetricsCSV(str(path))
    for step in range(1, steps + 1):
        log.log_metrics({"train/elbo": -float(step), "epoch": step}, step)
        log.save()
    return log


def test_rows_are_added_and_the_file_is_written_anew_for_new_names_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = logged(tmp_path / "metrics.csv", 3)
    first = log.path.stat().st_ino
    before = log.path.read_bytes()
    log.log_metrics({"train/elbo": 1.0}, 4)
    log.save()
    assert log.path.stat().st_ino == first
    assert log.path.read_bytes().startswith(before)
    log.log_metrics({"test/elbo": 2.0}, 4)
    log.save()
    assert _rows(log.path)[-1] == {"step": "4", "epoch": "", "test/elbo": "2.0", "train/elbo": "1.0"}
    # Numbers of the test are those of a run that is over.
    resumed = MetricsCSV(str(log.path))
    resumed.continue_after(4, 4)
    resumed.save()
    assert "test/elbo" not in _rows(log.path)[-1]


def test_rows_are_on_the_disk_when_they_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = logged(tmp_path / "metrics.csv", 1)
    flushed = list[int]()
    monkeypatch.setattr(os, "fsync", flushed.append)
    log.log_metrics({"train/elbo": 1.0}, 2)
    log.save()
    log.save()
    assert len(flushed) == 1


def test_a_row_that_was_being_written_is_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = logged(tmp_path / "metrics.csv", 3)
    log.path.write_bytes(log.path.read_bytes()[:-4])
    assert [row["step"] for row in read_rows(log.path)] == ["1", "2"]
    resumed = MetricsCSV(str(log.path))
    resumed.continue_after(2, 2)
    assert len(resumed.rows) == 2
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("damage", [b"", b"\0" * 200, b"garbage\n1\n", None, "gone"])
def test_lost_rows_are_told_and_the_damaged_file_is_kept(
    damage: bytes | str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = logged(tmp_path / "metrics.csv", 10)
    content = log.path.read_bytes()
    log.path.write_bytes(content[: len(content) // 2] if damage is None else str(damage).encode())
    if isinstance(damage, bytes):
        log.path.write_bytes(damage)
    if damage == "gone":
        log.path.unlink()
    resumed = MetricsCSV(str(log.path))
    resumed.continue_after(8, 8)
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {log.path}: a damaged file")
    assert said.count("\n") == 1
    assert f"of the 8 rows up to step 8 {8 - len(resumed.rows)} are lost" in said
    assert len(resumed.rows) == (4 if damage is None else 0)
    assert log.path.with_name("metrics.csv.damaged").exists() == (damage != "gone")
    resumed.log_metrics({"train/elbo": 1.0}, 9)
    resumed.save()
    assert _rows(log.path)[-1]["step"] == "9"
