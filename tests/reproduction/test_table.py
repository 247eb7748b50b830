"""Tables: what is under conf/reproduce can be run, and the comparison says what the files say."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig

from commands import REPOSITORY, run_command
from vae.checks import ConfigError
from vae.paths import CONF
from vae.reproduction.comparison import compare, markdown
from vae.reproduction.table import read_table
from vae.reproduction.table_figure import table_figure
from vae.sweep.directory import SweepDirectory
from vae.sweep.plan import listed_values, make_job

TABLES = sorted(file.stem for file in (CONF / "reproduce").glob("*.yaml"))
TINY = """
title: Digits
measure: nll
also: [elbo]
evaluate: [k=7, ~metric.test.generation, ~metric.test.probe, ~metric.test.aggregate_posterior, chunk=2]
train: [logger=csv, callback=none, "network.hidden_sizes=[16]", trainer.accelerator=cpu]
short: [trainer.max_epochs=1]
full: [trainer.max_epochs=2]
rows:
  - {name: narrow, job: likelihood.sigma=0.3, paper: 10.0}
  - {name: learned, job: likelihood=gaussian_learned}
  - {name: learned bound, job: likelihood=gaussian_learned, measure: elbo}
  - {name: wide, job: likelihood.sigma=1, only: full}
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.mark.parametrize("schedule", ["short", "full"])
@pytest.mark.parametrize("name", TABLES)
def test_first_and_last_cells_compose(name: str, schedule: str, composed: Callable[..., DictConfig]) -> None:
    table = read_table(name, schedule)
    jobs = table.jobs([3])
    assert len(jobs) == len({row.job for row in table.rows})
    for job in (jobs[0], jobs[-1]):
        assert composed(*table.train, *job.split()).seed == 3


def test_a_grid_has_a_row_for_each_combination() -> None:
    table = read_table("starts", "short")
    assert len(table.rows) == len(table.jobs([0])) == 5 * 9 * 4 * 3
    (row,) = read_table("starts", "short", ["mnist, σ=0.3, tanh, grey"]).rows
    gaussian = "likelihood=gaussian likelihood.sigma=0.3"
    assert row.job == f"data=mnist {gaussian} network=mlp network.activation=tanh start_from_mean=grey"


def test_rows_share_runs_and_schedules_differ(tiny: Path) -> None:
    short, full = read_table(tiny, "short"), read_table(tiny, "full")
    assert short.jobs([0, 1])[:2] == ["likelihood.sigma=0.3 seed=0", "likelihood.sigma=0.3 seed=1"]
    assert (len(short.jobs([0])), len(full.jobs([0]))) == (2, 3)
    assert (short.stem, full.stem) == ("tiny_short", "tiny")
    assert short.train[-1] == "trainer.max_epochs=1"
    assert [row.name for row in read_table(tiny, "full", ["wide"]).rows] == ["wide"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("burdaa", "short"), "table=burdaa: must be one of autoencoders, burda"),
        (("burda", "long"), "schedule=long: must be one of short, full"),
        (("burda", "short", ["VAE"]), "rows=.*: must be of VAE k=1, "),
    ],
)
def test_what_there_is_not_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_table(*arguments)


def _fake_run(folder: SweepDirectory, line: str, nll: float | None) -> None:
    job = folder.job(make_job(listed_values(line)).name)
    with job.lock():
        job.start()
        if nll is None:
            job.finish("failed", "out of memory")
            return
        (job.path / "metrics.json").write_text(json.dumps({"epochs": 1}))
        measured = {"test/nll": nll, "test/nll_stderr": 0.5, "test/elbo": -nll - 2}
        measured |= {"test/nll_k": 50.0, "test/nll_at_1": nll + 2, "test/nll_at_10": nll + 1}
        (job.path / "evaluation.json").write_text(json.dumps({"metrics": measured}))
        (job.path / ".hydra").mkdir()
        (job.path / ".hydra" / "origin.json").write_text('{"commit": "abc", "device": "one CPU"}')
        job.finish("done")


def test_the_comparison_is_of_all_seeds_and_shows_failures(tiny: Path, tmp_path: Path) -> None:
    table, folder = read_table(tiny, "short"), SweepDirectory(tmp_path / "sweep")
    jobs = [make_job(listed_values(line)) for line in table.jobs([0, 1])]
    with folder.claim({}):
        folder.write(jobs, identity={}, metric="val/elbo", axes=[], constants=[])
    for line, nll in zip(table.jobs([0, 1]), (11.0, 14.0, 20.0, None), strict=True):
        _fake_run(folder, line, nll)
    found = compare(table, folder.path, [0, 1], "the command")
    narrow, learned, bound = found["rows"]
    assert (narrow["ours"], narrow["difference"]) == (12.5, 2.5)
    assert narrow["spread"] == pytest.approx(4.5**0.5)
    assert (learned["ours"], learned["spread"], bound["ours"]) == (20.0, None, -22.0)
    assert learned["runs"][1] == {"seed": 1, "state": "failed", "reason": "out of memory"}
    assert narrow["runs"][0]["nll_at"] == {"1": 13.0, "10": 12.0, "50": 11.0}
    page = markdown(found)
    assert "| narrow | nll | 12.50 | 10.00 | +2.50 | -14.50 | 2 of 2 | 2.12 | 1 |" in page
    assert "| learned | nll | 20.00 ± 0.50 | – | – | -22.00 | 1 of 2 |" in page
    assert "- learned, seed 1: failed (out of memory)" in page
    assert f"train: `{' '.join(table.train)}`." in page
    rows, curves = table_figure(found).axes
    assert [label.get_text() for label in rows.get_yticklabels()] == ["narrow", "learned", "learned bound"]
    ours = [container.lines[0].get_xdata().item() for container in rows.containers]
    assert ours == [11.0, 14.0, 20.0, -22.0]
    assert rows.get_xscale() == "linear"
    # Of the first seed that has it; the bound has none.
    assert [list(line.get_ydata()) for line in curves.lines] == [[13.0, 12.0, 11.0], [22.0, 21.0, 20.0]]
    assert list(curves.lines[0].get_xdata()) == [1, 10, 50]
    for row, value in zip(found["rows"], (10.0, 20.0, 1000.0), strict=True):
        row["runs"] = [{"value": value, "stderr": None}]
    assert table_figure(found).axes[0].get_xscale() == "log"


@pytest.mark.slow
def test_a_table_is_trained_measured_and_taken_up_again(tiny: Path, tmp_path: Path) -> None:
    command = ["-m", "vae.reproduce", f"table={tiny}", f"folder={tmp_path}/sweep", f"results={tmp_path}/results"]
    first = run_command(*command, "rows=[narrow]", folder=REPOSITORY)
    assert first.returncode == 0, first.stderr
    job = tmp_path / "sweep" / "likelihood.sigma=0.3,seed=0"
    before = (job / "metrics.json").stat().st_mtime, (job / "evaluation.json").stat().st_mtime
    assert run_command(*command, folder=REPOSITORY).returncode == 0
    assert ((job / "metrics.json").stat().st_mtime, (job / "evaluation.json").stat().st_mtime) == before
    found = json.loads((tmp_path / "results" / "tiny_short.json").read_text())
    assert [row["name"] for row in found["rows"]] == ["narrow", "learned", "learned bound"]
    evaluated = json.loads((job / "evaluation.json").read_text())["metrics"]
    assert evaluated["test/nll_k"] == 7
    assert found["rows"][0]["ours"] == evaluated["test/nll"]
    assert found["rows"][2]["ours"] < 0
    assert (tmp_path / "sweep" / "report.html").is_file()


def test_an_error_of_the_training_is_one_line(tiny: Path, tmp_path: Path) -> None:
    misspelled = 'train=["latent_sze=2"]'
    done = run_command(
        "-m", "vae.reproduce", f"table={tiny}", f"folder={tmp_path}/sweep", misspelled, folder=REPOSITORY
    )
    assert done.returncode == 1
    assert re.fullmatch(r"error: latent_sze=2: no such key; did you mean latent_size.*\n", done.stderr)
