"""summary.csv and report.html, the latter as a real browser shows it."""

import csv
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from browser import SIZES, check_looks, look_at, needs_browser
from commands import run_command
from sweep.fake_sweep import CURVE, fake_elbo, write_fake_kinds, write_fake_sweep
from vae.page.page import page
from vae.sweep.directory import SweepDirectory
from vae.sweep.report.data import CURVE_POINTS, SHOWN_JOBS, report_data, sample
from vae.sweep.report.write import main, write_report
from vae.sweep.results import closing_lines, results


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> SweepDirectory:
    folder = write_fake_sweep(tmp_path_factory.mktemp("sweep"))
    write_report(folder.path)
    return folder


def data_of(folder: SweepDirectory) -> dict[str, Any]:
    return report_data(folder, results(folder))


def test_the_summary_has_a_row_a_job_and_every_number(folder: SweepDirectory) -> None:
    with (folder.path / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 36
    for row in rows[:-1]:
        values = [float(row[key]) for key in ("latent_size", "objective.k", "likelihood.sigma", "seed")]
        assert row["status"] == "done"
        assert float(row["val/elbo"]) == fake_elbo(*values)
    assert rows[-1]["status"] == "failed"
    assert "CUDA out of memory" in rows[-1]["reason"]
    assert rows[-1]["val/elbo"] == ""


def test_means_and_deviations_over_seeds(folder: SweepDirectory) -> None:
    groups = data_of(folder)["seeds"]
    assert len(groups) == 18
    first = groups[0]
    assert (first["n"], first["latent_size"], first["objective.k"]) == (2, 2, 1)
    mean, deviation = first["val/elbo"]
    assert mean == pytest.approx(fake_elbo(2, 1, 0.1, 0.5))
    assert deviation == pytest.approx(0.5**0.5)
    # The failed job is missing from its group, and a single number has no spread.
    assert groups[-1]["n"] == 1
    assert groups[-1]["val/elbo"][1] == 0


def test_the_best_job_comes_with_its_command(folder: SweepDirectory) -> None:
    [best] = data_of(folder)["best"]
    assert best["job"] == "latent_size=2,likelihood.sigma=0.1,objective.k=5,seed=1"
    assert best["command"] == (
        "python train.py data=mnist 'name=a b' latent_size=2 objective.k=5 likelihood.sigma=0.1 seed=1"
    )


def test_of_very_many_jobs_some_are_drawn_the_best_among_them() -> None:
    names = [f"seed={n}" for n in range(1000)]
    assert sample(names[:SHOWN_JOBS], [names[3]]) == names[:SHOWN_JOBS]
    for best in (names[:1], names[-2:], names[500:900]):
        drawn = sample(names, best)
        assert len(drawn) == SHOWN_JOBS
        assert drawn == sorted(set(drawn), key=names.index)
        assert set(best[:SHOWN_JOBS]) <= set(drawn)
    assert max(int(name.removeprefix("seed=")) for name in sample(names, [])) > 990


def test_long_curves_are_thinned_and_end_at_their_last_point(folder: SweepDirectory) -> None:
    for name, (steps, values) in next(iter(data_of(folder)["curves"].values())).items():
        assert len(steps) == len(values) <= CURVE_POINTS + 1
        assert steps[-1] == CURVE - 1, name


def test_the_command(folder: SweepDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([f"dir={folder.path}"]) == 0
    assert capsys.readouterr().out.strip() == str(folder.path / "report.html")
    assert main([f"dir={tmp_path}"]) == 1
    assert "not a sweep's directory" in capsys.readouterr().err
    assert main([]) == 1
    assert "usage" in capsys.readouterr().err


def test_last_is_the_sweep_that_was_started_or_resumed_last(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["dir=last"]) == 1
    assert f"last: there is no sweep below {tmp_path / 'runs'}" in capsys.readouterr().err
    for age, name in [(10, "a"), (0, "b"), (20, "c")]:
        sweep = write_fake_sweep(tmp_path / "runs" / "digits" / name, seeds=1)
        os.utime(sweep.manifest_file, (1e9 - age, 1e9 - age))
    assert main(["dir=last"]) == 0
    assert capsys.readouterr().out.strip() == str(Path("runs", "digits", "b", "report.html"))


def test_two_hundred_jobs_take_ten_seconds_and_fifteen_megabytes_at_most(tmp_path: Path) -> None:
    folder = write_fake_sweep(tmp_path, seeds=12)
    assert len(folder.jobs()) == 216
    started = time.process_time()
    write_report(folder.path)
    assert time.process_time() - started < 10
    assert (folder.path / "report.html").stat().st_size < 15e6


# Runs in the page.
PROBE = """
const lines = () => [...document.querySelectorAll("#jobs tbody tr")];
const sorted = (column) => lines().map((line) => line.cells[columns().indexOf(column)].textContent);
const click = (column) => document.querySelector(`#jobs th[data-column="${column}"] button`).click();
function filtered(text) {
  filter.value = text;
  filter.dispatchEvent(new Event("input"));
  return sorted("job");
}
const dots = (id) => document.querySelectorAll(`#${id} svg g circle`).length;
found.rows = lines().length;
click("val/elbo"); found.descending = sorted("val/elbo");
click("val/elbo"); found.ascending = sorted("val/elbo");
click("latent_size"); found.sizes = sorted("latent_size");
found.small = filtered("done latent_size<8");
found.points = dots("plane");
found.failed = filtered("failed");
found.none = filtered("nothing-like-this").length;
found.either = filtered("latent_size=2|32").length;
filtered("");
// The axes of the parallel coordinates, by their places on the screen.
const parallel = () => document.querySelector("#parallel svg");
function drag(axis, from, to) {
  const box = parallel().getBoundingClientRect(), places = [...parallel().querySelectorAll("line")];
  const x = Number(places[axis].getAttribute("x1")), [top, bottom] = [14, 380 - 34];
  const at = (dx, share) => {
    const place = { clientX: box.left + x + dx, clientY: box.top + bottom + (top - bottom) * share };
    return { ...place, pointerType: "mouse", bubbles: true };
  };
  parallel().setPointerCapture = () => {};
  const svg = parallel();
  svg.dispatchEvent(new PointerEvent("pointerdown", at(-9, from)));
  svg.dispatchEvent(new PointerEvent("pointermove", at(9, to)));
  found.box = svg.querySelector(".zoom") !== null;
  svg.dispatchEvent(new PointerEvent("pointerup", at(9, to)));
  return filter.value;
}
const grey = () => parallel().querySelectorAll(".left-out").length;
found.brushed = drag(0, -0.02, 0.6);
found.brushedRows = [lines().length, grey(), parallel().querySelectorAll("polyline").length];
found.brushedTwice = drag(2, 0.9, 1.02);
found.brushedAgain = drag(0, 0.9, 1.02);
parallel().dispatchEvent(new MouseEvent("dblclick"));
found.unbrushed = [filter.value, grey()];
const boxes = [...document.querySelectorAll("section > div[id]")];
found.charts = boxes.filter((box) => box.querySelector("svg, table")).map((box) => box.id);
const images = [...document.querySelectorAll("#pictures img")];
found.pictures = images.length;
found.broken = images.filter((image) => image.complete && !image.naturalWidth).length;
for (let i = 0; i < document.querySelectorAll("select").length; i++) {
  for (const option of [...document.querySelectorAll("select")[i].options]) {
    const select = document.querySelectorAll("select")[i];
    select.value = option.value;
    select.dispatchEvent(new Event("change"));
  }
}
"""


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_browser_shows_it_sorts_it_and_filters_it(
    folder: SweepDirectory, tmp_path: Path, width: int, scheme: str
) -> None:
    html = (folder.path / "report.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?http", html)
    found = look_at(html, PROBE, tmp_path, width, scheme)
    check_looks(found, width, scheme)
    assert found["rows"] == 36
    numbers = [float(text.replace("−", "-")) for text in found["descending"][:-1]]
    assert numbers == sorted(numbers, reverse=True)
    # What failed has no number, and stays at the end both ways.
    assert found["descending"][-1] == found["ascending"][-1] == ""
    assert [float(text.replace("−", "-")) for text in found["ascending"][:-1]] == sorted(numbers)
    assert found["sizes"] == ["2"] * 12 + ["8"] * 12 + ["32"] * 12
    assert len(found["small"]) == found["points"] == 12
    assert all(name.startswith("latent_size=2,") for name in found["small"])
    assert found["failed"] == ["latent_size=32,likelihood.sigma=1,objective.k=5,seed=1"]
    assert found["none"] == 0
    assert found["either"] == 24
    # A box over an axis is a condition, whose place the next one on that axis takes; others turn grey.
    assert found["brushed"] == "latent_size>=2 latent_size<=8"
    assert found["box"]
    assert found["brushedRows"] == [24, 11, 35]
    assert found["brushedTwice"] == "latent_size>=2 latent_size<=8 likelihood.sigma=1"
    assert found["brushedAgain"] == "likelihood.sigma=1 latent_size=32"
    assert found["unbrushed"] == ["", 0]
    assert set(found["charts"]) == {"jobs", "against", "plane", "heat", "parallel", "curves", "pictures"}
    assert found["pictures"] == 35
    assert found["broken"] == 0


KINDS_PROBE = """
const select = document.querySelector("select");
const circles = () => document.querySelectorAll("#against svg g circle").length;
const lines = () => document.querySelectorAll("#against svg g polyline").length;
found.options = [...select.options].map((option) => option.textContent);
found.best = [...document.querySelectorAll(".remarks li")].map((line) => line.textContent);
found.marked = document.querySelectorAll("#jobs tr.best").length;
found.drawn = [circles(), lines()];
found.measures = {};
for (const option of found.options) {
  select.value = option;
  select.dispatchEvent(new Event("change"));
  const menu = [...document.querySelectorAll("label")].find((label) => label.textContent.startsWith("measure"));
  found.measures[option] = [...menu.querySelector("select").options].map((one) => one.textContent);
}
found.plane = document.querySelector("#plane").textContent;
"""


@needs_browser
def test_likelihoods_of_different_kinds_have_a_best_each_and_no_line_between_them(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    folder = write_fake_kinds(tmp_path / "sweep", composed)
    data = data_of(folder)
    density, probability = "Digits: a density", "Digits: a probability of 256 levels"
    assert [(best["group"], best["job"]) for best in data["best"]] == [
        (density, "likelihood=gaussian_learned,seed=1"),
        (probability, "likelihood=categorical,seed=1"),
    ]
    said, _ = closing_lines(folder, 9.0, interrupted=False)
    assert f"best      val/elbo of {density} " in said
    assert f"best      val/elbo of {probability} " in said
    found = look_at(page(data["title"], "sweep", data), KINDS_PROBE, tmp_path)
    check_looks(found, 1400, "light")
    assert found["options"] == [density, probability, "all, by what compares"]
    assert len(found["best"]) == found["marked"] == 2
    # Two likelihoods of the first kind, by words: two points and nothing between.
    assert found["drawn"] == [2, 0]
    assert "val/elbo" in found["measures"][density]
    assert "val/mse" in found["measures"][density]
    compare = {f"{split}/{name}" for split in ("test", "val") for name in ("mse", "rate")}
    assert set(found["measures"]["all, by what compares"]) == compare | {"epochs", "steps", "seconds"}
    assert "do not compare" in found["plane"]


def test_a_sweep_without_a_single_result_has_a_report_too(tmp_path: Path) -> None:
    folder = write_fake_sweep(tmp_path, seeds=1, failed=18)
    data = data_of(folder)
    assert data["best"] == []
    assert "out of memory" in page("", "sweep", data)


def test_a_sweep_with_a_single_result_has_one_best_of_no_kind(tmp_path: Path) -> None:
    folder = write_fake_sweep(tmp_path, seeds=1, failed=17)
    assert [best["group"] for best in data_of(folder)["best"]] == [""]
    said, _ = closing_lines(folder, 9.0, interrupted=False)
    assert "best      val/elbo -" in said


def test_the_report_module_runs_as_a_command(folder: SweepDirectory) -> None:
    assert run_command("-m", "vae.sweep.report", f"dir={folder.path}").returncode == 0


def test_damaged_files_of_jobs_are_named_and_all_else_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_fake_sweep(tmp_path)
    bad, broken, empty, lost, cut = (folder.path / job.name for job in folder.jobs()[:5])
    (bad / "metrics.csv").write_bytes(b"\0" * 100)
    (broken / "images" / "samples.png").unlink()
    (broken / "images" / "samples.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    (empty / "metrics.json").write_text("")
    (lost / "job.json").write_text("")
    (cut / "metrics.csv").write_bytes((cut / "metrics.csv").read_bytes()[:-3])
    write_report(folder.path)
    said = capsys.readouterr().err
    assert said.count("warning: ") == 2
    with (folder.path / "summary.csv").open(newline="") as file:
        rows = {row["job"]: row for row in csv.DictReader(file)}
    assert len(rows) == 36
    assert f"{bad}/metrics.csv: a damaged file" in rows[bad.name]["reason"]
    assert f"{broken}/images/samples.png: a damaged picture" in rows[broken.name]["reason"]
    assert (rows[empty.name]["status"], rows[empty.name]["val/elbo"]) == ("interrupted", "")
    assert f"{empty}/metrics.json: a damaged file" in rows[empty.name]["reason"]
    assert rows[lost.name]["status"] == "done"
    assert f"{lost}/job.json: a damaged file" in rows[lost.name]["reason"]
    assert rows[cut.name]["reason"] == ""
