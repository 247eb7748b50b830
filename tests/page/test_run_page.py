"""run.html: what it says of a run, as data and as a browser shows it."""

import contextlib
import csv
import math
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from browser import SIZES, check_looks, look_at, needs_browser
from vae.checks import ConfigError
from vae.command.interruption import Interrupted, signals_interrupt
from vae.page.curves import Curve, read_curves
from vae.page.page import page
from vae.page.run_page import keep_run_page, pictures, run_data, write_run_page
from vae.page.verdict import bound_sentence, closing_lines, verdict
from vae.picture.figure import save_figure
from vae.picture.sheet import Sheet
from vae.run.directory import RunDirectory, newest_run

EVIL = "</script><b>&'\"<img src=x>{{DATA}}"
EPOCHS, STEPS = 40, 19


def elbo(epoch: int) -> float:
    """A bound that levels off."""
    return 20 - 100 * 0.7**epoch


@pytest.fixture
def run(composed: Callable[..., DictConfig], tmp_path: Path) -> RunDirectory:
    """A run of 40 epochs and two latents, with pictures of five of them, whose name is markup."""
    return make_run(tmp_path / "a <b>&' run", composed("latent_size=2", f"trainer.max_epochs={EPOCHS}"))


def make_run(path: Path, config: DictConfig, val: Callable[[int], float] = elbo) -> RunDirectory:
    run = RunDirectory(path)
    config.name = EVIL
    run.write_config(config)
    run.write_arguments(["latent_size=2", f"+note={EVIL}"])
    run.write_origin({"commit": "abc", "device": EVIL, "torch": "2"})
    rows = []
    for epoch in range(EPOCHS):
        value, step = val(epoch + 1), STEPS * (epoch + 1)
        bound = {"elbo": value, "rate": 4, "distortion": -value - 4, "loss": -value}
        row = {"step": step, "epoch": epoch, "val/active_units": 2, "val/sigma": 0.1 + 1 / (epoch + 1)}
        row |= {f"{split}/{name}": number for split in ("train", "val") for name, number in bound.items()}
        rows.append(row | {"latent/rate_001": 3, "latent/rate_002": 1})
        rows.append({"step": step + 7, "train/grad_norm": 100 / (epoch + 1)})
    with (path / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys() | {"train/grad_norm"})
        writer.writeheader()
        writer.writerows(rows)
    last = val(EPOCHS)
    metrics = {"test/elbo": last, "test/rate": 4.0, "test/distortion": -last - 4, "test/active_units": 2.0}
    nll = {"test/nll": -last - 2.6, "test/nll_k": 100.0, "test/nll_ess": 12.0}
    run.write_metrics(
        metrics
        | nll
        | {"epochs": EPOCHS, "steps": EPOCHS * STEPS, "seconds": 9.0, "parameters": 170_000}
        | {"best_step": EPOCHS * STEPS}
    )
    for epoch in (0, 10, 20, 30, 40, None):
        folder = run.images if epoch is None else run.images / f"epoch_{epoch:04d}"
        title = f"Samples from the prior, epoch {epoch}"
        save_figure(
            folder / "samples.png", Sheet(torch.rand(9, 1, 8, 8), 3, title, list("abc"), list("xyz"), "x", "y")
        )
    return run


def test_it_holds_the_curves_the_pictures_and_what_was_told(run: RunDirectory) -> None:
    data = run_data(run, "done", EPOCHS)
    assert data["curves"]["val/elbo"]["epochs"][:3] == [1, 2, 3]
    assert data["curves"]["val/elbo"]["values"][-1] == elbo(EPOCHS)
    # Between two validations, with no epoch in its row.
    assert data["curves"]["train/grad_norm"]["epochs"][0] == pytest.approx(26 / 19, abs=1e-3)
    [samples] = data["pictures"]
    assert [frame["epoch"] for frame in samples["frames"]] == [0, 10, 20, 30, 40, None]
    assert samples["frames"][1]["row_names"] == ["a", "b", "c"]
    assert data["latents"] == ["z₁", "z₂"]
    assert dict(data["told"])["likelihood"] == "Gaussian: sigma=0.15"
    assert dict(data["cost"])["seconds"] == 9.0
    assert data["command"].startswith("python train.py latent_size=2 '+note=")


def test_the_gap_is_said_in_a_sentence() -> None:
    said = bound_sentence({"test/elbo": 26.0, "test/nll": -28.6, "test/nll_k": 100.0, "test/nll_ess": 12.0})
    assert said is not None
    assert "log p(x) ≥ elbo = 26 nats per image" in said
    assert "is about 2.6 nats" in said
    loose = bound_sentence({"test/elbo": 26.0, "test/nll": -28.6, "test/nll_k": 100.0, "test/nll_ess": 1.1})
    assert loose is not None
    assert "is at least 2.6 nats" in loose
    assert bound_sentence({"test/distortion": 3.0}) is None


def curve(values: list[float]) -> Curve:
    return Curve([19 * (i + 1) for i in range(len(values))], [i + 1.0 for i in range(len(values))], values)


@pytest.mark.parametrize(
    ("course", "kind", "words"),
    [
        (lambda e: 20 - 100 * 0.7**e, "good", "has levelled off at 20"),
        (
            lambda e: 20 + 0.5 * e + 0.05 * math.sin(9 * e),
            "note",
            "is still rising: by 4 nats in the last 8 epochs",
        ),
        (lambda e: -0.02 * (e - 12) ** 2, "warning", "overfitting: val/elbo was best after epoch 12"),
        # Noise is no rise.
        (lambda e: 20 + 3 * math.sin(9 * e), "good", "has levelled off"),
    ],
)
def test_the_verdict_on_a_course(run: RunDirectory, course: Callable[[int], float], kind: str, words: str) -> None:
    values = [course(epoch) for epoch in range(1, EPOCHS + 1)]
    curves = {"val/elbo": curve(values), "train/elbo": curve([float(e) for e in range(EPOCHS)])}
    found = [remark for remark in verdict(run, run.config(), curves, {}) if words in remark.text]
    assert [remark.kind for remark in found] == [kind]


def test_longer_is_the_same_command_with_more_epochs(run: RunDirectory) -> None:
    rising = verdict(run, run.config(), {"val/elbo": curve([float(e) for e in range(EPOCHS)])}, {})
    [command] = [remark.command for remark in rising if remark.command]
    assert command.startswith("python train.py latent_size=2 ")
    assert command.endswith(" trainer.max_epochs=80")


def test_a_collapse_is_said_in_the_verdict_and_in_the_closing_lines(run: RunDirectory) -> None:
    metrics = {"test/elbo": -61.2, "test/rate": 1e-7, "test/active_units": 0.0, "test/mse": 0.07, "seconds": 9.0}
    [collapse] = verdict(run, run.config(), {}, metrics)
    assert collapse.kind == "warning"
    assert "a σ that fits" in collapse.text
    assert str(collapse.command).startswith("python train.py latent_size=2 ")
    assert str(collapse.command).endswith(" -m likelihood.sigma=0.5,0.3,0.15,0.1")
    config = OmegaConf.merge(run.config(), {"likelihood": {"sigma": None}})
    assert isinstance(config, DictConfig)
    [collapse] = verdict(run, config, {}, metrics)
    assert str(collapse.command).endswith(" posterior.init_sigma=0.05")
    lines = closing_lines(run, metrics, 9.0).splitlines()
    assert any(line.startswith("  warning   posterior collapse: 0 active units") for line in lines)


def test_closing_lines_name_only_what_is_there(run: RunDirectory) -> None:
    def named() -> set[str]:
        return {line.split()[0] for line in closing_lines(run, run.metrics(), 9.0).splitlines()[2:]}

    assert named() == {"numbers", "pictures", "model", "next"}
    write_run_page(run, "done", EPOCHS)
    for file in sorted(run.images.rglob("*"), reverse=True):
        file.rmdir() if file.is_dir() else file.unlink()
    run.images.rmdir()
    assert named() == {"page", "numbers", "model", "next"}


def test_the_page_needs_no_other_and_stays_small(run: RunDirectory) -> None:
    for epoch in range(100):
        colour = Sheet(torch.rand(64, 3, 64, 64), 8, "t")
        folder = run.images / f"epoch_{epoch:04d}"
        if epoch % 7 == 0:
            for name in ("samples", "reconstructions", "manifold", "interpolations"):
                save_figure(folder / f"{name}.png", colour)
        else:
            folder.mkdir(exist_ok=True)
    size = write_run_page(run, "training", 99).stat().st_size
    assert size < 6e6
    epochs = [frame["epoch"] for frame in pictures(run.images)[0]["frames"]]
    assert epochs[0] == 0


@pytest.mark.parametrize("is_signal", [True, False])
def test_a_page_that_cannot_be_written_ends_no_run_but_a_signal_does(
    run: RunDirectory, is_signal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Pillow makes an OSError without a number of whatever is raised while it calls back."""

    def write(*args: object) -> None:
        with contextlib.suppress(Interrupted):
            if is_signal:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
        raise OSError("broken data stream")

    monkeypatch.setattr("vae.page.run_page.write_run_page", write)
    with pytest.raises(Interrupted) if is_signal else contextlib.nullcontext(), signals_interrupt():
        assert not keep_run_page(run, "running", 1)
    warning = f"warning: {run.path / 'run.html'}: cannot be written (broken data stream)\n"
    assert capsys.readouterr().err == ("" if is_signal else warning)


def test_a_page_that_cannot_be_written_of_an_interrupted_run_is_a_warning(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vae.page.run_page.write_run_page", write)

    def interrupted() -> None:
        with signals_interrupt():
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            except Interrupted as known:
                known.is_known = True  # as RunPage.on_exception says
                assert not keep_run_page(run, "interrupted", 1)
                print("and went on")
                raise

    with pytest.raises(Interrupted):
        interrupted()
    printed = capsys.readouterr()
    assert printed.out == "and went on\n"
    assert printed.err.endswith("run.html: cannot be written (No space left on device)\n")


def test_a_page_is_escaped() -> None:
    html = page(EVIL, "run", {"text": EVIL, "number": math.nan})
    assert html.count("</script>") == 3
    assert "<b>" not in html
    assert '"number": null' in html


PROBE = """
found.images = [...document.images].map((image) => image.complete && image.naturalWidth > 0);
const slider = document.querySelector("input[type=range]");
const output = () => document.querySelector("output").textContent;
found.title = document.querySelector("h1").textContent;
found.markup = [...document.querySelectorAll("b, img[src=x]")].filter((node) => !node.closest(".tile, p")).length;
found.start = output();
slider.value = 1; slider.dispatchEvent(new Event("input"));
found.moved = output();
found.caption = document.querySelector("figcaption").textContent;
const svg = document.querySelector(".chart svg");
svg.focus();
const press = (key) => svg.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
press("ArrowRight"); press("ArrowRight"); press("ArrowDown");
found.tip = document.querySelector(".tip:not([hidden])")?.textContent;
const drawn = (svg) => svg.querySelectorAll("polyline, rect").length;
found.charts = [...document.querySelectorAll(".chart svg")].map(drawn);
found.names = document.querySelectorAll(".legend button").length;
document.querySelector(".legend button").click();
found.hidden = document.querySelector(".legend button").getAttribute("aria-pressed");
found.text = document.body.innerText;
"""


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_browser_shows_it(run: RunDirectory, tmp_path: Path, width: int, scheme: str) -> None:
    html = write_run_page(run, "done", EPOCHS).read_text()
    found = look_at(html, PROBE, tmp_path, width, scheme)
    check_looks(found, width, scheme)
    assert found["title"].startswith(EVIL)
    assert found["markup"] == 0
    assert found["start"] == "the best checkpoint, test images"
    assert found["moved"].startswith("epoch 10, validation elbo ")
    assert found["caption"] == "Samples from the prior, epoch 10"
    assert found["images"] == [True]
    assert found["tip"].startswith("validation elbo ")
    assert "\nepoch 6, step 114" in found["tip"]  # the first that does not stretch the axis is 5
    assert len(found["charts"]) >= 7
    assert all(found["charts"])
    assert found["hidden"] == "false"
    for words in ("log p(x) ≥ elbo", "gap KL(q(z|x)‖p(z|x)) is about 2.6 nats", "levelled off", "170000", EVIL):
        assert words in found["text"], words


@needs_browser
@pytest.mark.parametrize("state", ["training", "interrupted", "failed"])
def test_a_run_that_has_hardly_begun_has_a_page_too(
    composed: Callable[..., DictConfig], tmp_path: Path, state: str
) -> None:
    run = RunDirectory(tmp_path / "new")
    run.write_config(composed())
    found = look_at(
        write_run_page(run, state, 0, EVIL).read_text(), "found.text = document.body.innerText;", tmp_path
    )
    check_looks(found, 1400, "light")
    assert {"training": "epoch 0 of 60", "interrupted": "resume=", "failed": EVIL}[state] in found["text"]


def test_the_last_run_is_the_one_that_was_started_last(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import shutil

    root = run.path.parent / "runs"
    for name, age, trained in (("digits/old", 100, True), ("sweep/new", 10, True), ("digits/failed", 0, False)):
        shutil.copytree(run.path, root / name)
        if trained:
            (root / name / "checkpoints").mkdir()
            (root / name / "checkpoints" / "last.ckpt").touch()
        file = root / name / ".hydra" / "config.yaml"
        os.utime(file, (file.stat().st_mtime - age,) * 2)
    monkeypatch.chdir(root.parent)
    assert RunDirectory("last").path == Path("runs/sweep/new")
    with pytest.raises(ConfigError, match="run=last: there is no run with a checkpoint below"):
        newest_run(root / "digits" / "failed")


def test_curves_of_one_epoch_and_of_none(tmp_path: Path) -> None:
    assert read_curves(tmp_path / "metrics.csv") == {}
    (tmp_path / "metrics.csv").write_text("step,epoch,test/loss,train/loss,val/loss\n19,1,2.0,3.0,2.5\n")
    assert read_curves(tmp_path / "metrics.csv") == {
        "train/loss": Curve([19], [1.0], [3.0]),
        "val/loss": Curve([19], [1.0], [2.5]),
    }
