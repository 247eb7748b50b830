"""summary.csv and report.html, the latter as a real browser shows it."""

import csv
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from commands import run_command
from sweep.fake_sweep import CURVE, fake_elbo, write_fake_sweep
from vae.sweep.folder import SweepDirectory
from vae.sweep.report.data import CURVE_POINTS, report_data
from vae.sweep.report.page import main, page, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> SweepDirectory:
    folder = write_fake_sweep(tmp_path_factory.mktemp("sweep"))
    write_report(folder.path)
    return folder


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
    groups = report_data(folder)["seeds"]
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
    best = report_data(folder)["best"]
    assert best["job"] == "latent_size=2,likelihood.sigma=0.1,objective.k=5,seed=1"
    assert best["command"] == (
        "python train.py data=mnist 'name=a b' latent_size=2 objective.k=5 likelihood.sigma=0.1 seed=1"
    )


def test_long_curves_are_thinned_and_end_at_their_last_point(folder: SweepDirectory) -> None:
    for name, (steps, values) in next(iter(report_data(folder)["curves"].values())).items():
        assert len(steps) == len(values) <= CURVE_POINTS + 1
        assert steps[-1] == CURVE - 1, name


def test_the_command(folder: SweepDirectory, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([f"dir={folder.path}"]) == 0
    assert capsys.readouterr().out.strip() == str(folder.path / "report.html")
    assert main([f"dir={tmp_path}"]) == 1
    assert "not a sweep's directory" in capsys.readouterr().err
    assert main([]) == 1
    assert "usage" in capsys.readouterr().err


def test_two_hundred_jobs_take_ten_seconds_and_fifteen_megabytes_at_most(tmp_path: Path) -> None:
    folder = write_fake_sweep(tmp_path, seeds=12)
    assert len(folder.jobs()) == 216
    started = time.process_time()
    write_report(folder.path)
    assert time.process_time() - started < 10
    assert (folder.path / "report.html").stat().st_size < 15e6


# Runs in the page, and leaves what it found where `--dump-dom` shows it.
PROBE = """
const lines = () => [...document.querySelectorAll("#jobs tbody tr")];
const sorted = (column) => lines().map((line) => line.cells[columns().indexOf(column)].textContent);
const click = (column) => document.querySelector(`#jobs th[data-column="${column}"]`).click();
function filter(text) {
  element("filter").value = text;
  element("filter").dispatchEvent(new Event("input"));
  return sorted("job");
}
const found = {};
found.rows = lines().length;
click("val/elbo"); found.descending = sorted("val/elbo");
click("val/elbo"); found.ascending = sorted("val/elbo");
click("latent_size"); found.sizes = sorted("latent_size");
found.small = filter("done latent_size<8");
found.points = element("plane").data.slice(1).reduce((sum, trace) => sum + trace.x.length, 0);
found.failed = filter("failed");
found.none = filter("nothing-like-this").length;
found.either = filter("latent_size=2|32").length;
filter("");
function drag(fromX, fromY, toX, toY) {
  const chart = element("parallel"), { xaxis, yaxis } = chart._fullLayout, box = chart.getBoundingClientRect();
  const across = (x) => box.left + xaxis._offset + xaxis.d2p(x);
  const down = (y) => box.top + yaxis._offset + yaxis.d2p(y);
  const at = (x, y) => ({ clientX: across(x), clientY: down(y), bubbles: true, buttons: 1 });
  const target = chart.querySelector(".nsewdrag");
  target.dispatchEvent(new PointerEvent("pointerdown", at(fromX, fromY)));
  document.dispatchEvent(new PointerEvent("pointermove", at(toX, toY)));
  found.box = chart.querySelector(".brush").clientHeight > 10;
  document.dispatchEvent(new PointerEvent("pointerup", at(toX, toY)));
  return element("filter").value;
}
const grey = () => element("parallel").data.filter((trace) => trace.line.color === "#ddd").length;
element("parallel").scrollIntoView();
found.brushed = drag(-0.15, -0.02, 0.15, 0.6);
found.brushedRows = [lines().length, grey(), element("parallel").data.length];
found.brushedTwice = drag(1.85, 0.9, 2.15, 1.02);
found.brushedAgain = drag(-0.15, 0.9, 0.15, 1.02);
element("parallel").dispatchEvent(new MouseEvent("dblclick"));
found.unbrushed = [element("filter").value, grey()];
const charts = [...document.querySelectorAll(".chart")];
found.charts = charts.map((chart) => [chart.id, chart.querySelectorAll("svg").length]);
const images = [...document.querySelectorAll("#pictures img")];
found.pictures = images.length;
found.broken = images.filter((image) => image.complete && !image.naturalWidth).length;
for (const select of document.querySelectorAll("select")) for (const option of [...select.options]) {
  select.value = option.value; select.dispatchEvent(new Event("change"));
}
found.errors = window.problems;
document.body.innerHTML = "";
const result = { id: "found", textContent: JSON.stringify(found) };
document.body.append(Object.assign(document.createElement("pre"), result));
"""
CATCH = """<script>window.problems = [];
window.addEventListener("error", (event) => window.problems.push(event.message));
window.addEventListener("securitypolicyviolation", (event) => window.problems.push(event.violatedDirective));
for (const kind of ["error", "warn"]) console[kind] = (...all) => window.problems.push(all.join(" "));</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to show the report in")
def test_a_browser_shows_it_sorts_it_and_filters_it(folder: SweepDirectory, tmp_path: Path) -> None:
    html = (folder.path / "report.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=[\"']?http", html)
    probed = html.replace("<head>", "<head>" + CATCH, 1).replace("</body>", f"<script>{PROBE}</script></body>")
    (tmp_path / "probed.html").write_text(probed)
    found = found_by_browser(tmp_path / "probed.html")
    assert found["errors"] == []
    assert found["rows"] == 36
    numbers = [float(text) for text in found["descending"][:-1]]
    assert numbers == sorted(numbers, reverse=True)
    # What failed has no number, and stays at the end both ways.
    assert found["descending"][-1] == found["ascending"][-1] == ""
    assert [float(text) for text in found["ascending"][:-1]] == sorted(numbers)
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
    assert {name for name, drawings in found["charts"] if drawings} == {
        "against",
        "plane",
        "heat",
        "parallel",
        "curves",
    }
    assert found["pictures"] == 35
    assert found["broken"] == 0


def found_by_browser(file: Path) -> dict:
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
    flags += ["--virtual-time-budget=5000", f"--user-data-dir={file.parent / 'profile'}", "--dump-dom"]
    done = subprocess.run(
        [str(CHROMIUM), *flags, file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stdout[-2000:]
    return json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def test_a_sweep_without_a_single_result_has_a_report_too(tmp_path: Path) -> None:
    folder = write_fake_sweep(tmp_path, seeds=1, failed=18)
    assert report_data(folder)["best"] is None
    assert "out of memory" in page(report_data(folder))


def test_the_report_module_runs_as_a_command(folder: SweepDirectory) -> None:
    assert run_command("-m", "vae.sweep.report", f"dir={folder.path}").returncode == 0
