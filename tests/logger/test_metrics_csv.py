"""metrics.csv holds every number once, and goes on where an interrupted run was."""

import csv
from pathlib import Path

from vae.logger.metrics_csv import MetricsCSV


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
    resumed.continue_after(10)
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
