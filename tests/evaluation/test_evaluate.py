"""`python -m vae.evaluate`, as a user runs it."""

import errno
import json
import math
import re
import shutil
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from browser import SIZES, check_looks, look_at, needs_browser
from commands import call_command, run_command, run_train, train_quickly
from offline_wandb import read_summaries
from pictures_on_disk import encode, pixels, write_celeba, write_folder
from vae import load_model
from vae.data.celeba import CelebA
from vae.data.digits import Digits
from vae.evaluation import presentation
from vae.evaluation.evaluate_run import remarks
from vae.evaluation.presentation import groups, joint_notes
from vae.evaluation.result import Result
from vae.feature.network import load_classifier
from vae.metric.definition import Scored
from vae.paths import CONF
from vae.run.checkpoint import SEALED


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one run of binarised images, weights/ of a feature network beside it."""
    folder = tmp_path_factory.mktemp("evaluated")
    train_quickly(folder / "runs" / "a=1,b", "likelihood=bernoulli", "data.binarize=dynamic")
    done = call_command("vae.features", "data=digits", "steps=30", folder=folder)
    assert done.returncode == 0, done.stderr
    assert re.search(r"weights/features_digits\.pt: tells \d+\.\d+% of the test images right", done.stdout)
    return folder


def evaluate(folder: Path, *arguments: str) -> str:
    """Run the command in the folder; what it prints."""
    arguments = ("trainer.accelerator=cpu", *arguments)
    if any(argument.startswith("trainer.devices=") for argument in arguments):
        done = run_command("-m", "vae.evaluate", *arguments, folder=folder)
    else:
        done = call_command("vae.evaluate", *arguments, folder=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def saved(folder: Path, name: str = "evaluation.json") -> dict:
    return json.loads((folder / "runs" / "a=1,b" / name).read_text())


@pytest.fixture(scope="module")
def single(runs: Path) -> dict:
    """The evaluation by one process, in batches of which there are 8, the last one smaller."""
    evaluate(runs, "run=runs/a=1,b", "k=25", "batch_size=50")
    return saved(runs)


def test_every_measure_is_there_and_they_add_up(single: dict) -> None:
    m = {name.removeprefix("test/"): value for name, value in single["metrics"].items()}
    assert single["images"] == 360
    assert m["elbo"] == pytest.approx(-(m["distortion"] + m["rate"]))
    assert m["nll"] < -m["elbo"]
    assert m["nll_at_1"] > m["nll_at_10"] > m["nll"]
    assert m["nll_k"] == 25
    assert m["bits_per_dim"] == pytest.approx(-m["elbo"] / (64 * math.log(2)))
    assert sum(single["per_latent"]["test/rate_per_latent"]) == pytest.approx(m["rate"], rel=1e-4)
    assert m["mutual_information"] <= math.log(360)
    assert 0 <= m["recall_digits"] <= 1
    wanted = {"mse", "psnr", "ssim", "active_units", "fid_digits", "kid_digits", "fid_digits_reconstruction"}
    assert wanted | {"linear_probe_accuracy", "knn_accuracy", "marginal_kl", "nll_ess", "nll_poor"} <= set(m)
    assert single["cost"]["parameters"] == 2 * 64 * 32 + 32 + 64 + (32 * 6 + 6) + (3 * 32 + 32)
    assert single["cost"]["flops_per_image"] == 2 * (64 * 32 + 32 * 6 + 3 * 32 + 32 * 64)
    assert any(note.startswith("dynamic binarisation") for note in single["notes"])


@pytest.mark.parametrize("ranks", [2, 3])
def test_several_processes_give_the_numbers_of_one(runs: Path, single: dict, ranks: int) -> None:
    # 8 batches: with 3 ranks one of them gets a batch that does not count.
    evaluate(runs, "run=runs/a=1,b", "k=25", "batch_size=50", f"trainer.devices={ranks}", "trainer.strategy=ddp")
    several = saved(runs)
    assert several["metrics"].keys() == single["metrics"].keys()
    for name, value in single["metrics"].items():
        assert several["metrics"][name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    assert several["per_latent"]["test/rate_per_latent"] == pytest.approx(
        single["per_latent"]["test/rate_per_latent"], rel=1e-5
    )


def test_more_processes_than_batches(runs: Path) -> None:
    evaluate(runs, "run=runs/a=1,b", "k=5", "batch_size=500")
    one = saved(runs)
    evaluate(runs, "run=runs/a=1,b", "k=5", "batch_size=500", "trainer.devices=2", "trainer.strategy=ddp")
    for name, value in one["metrics"].items():
        assert saved(runs)["metrics"][name] == pytest.approx(value, rel=1e-5, abs=1e-6), name


def test_the_page_stands_by_itself_and_escapes(runs: Path) -> None:
    shutil.copytree(runs / "runs" / "a=1,b", runs / "<b>&")
    evaluate(runs, "run=<b>&", "k=2", "metric=default")
    assert json.loads((runs / "<b>&" / "evaluation.json").read_text())["metrics"]["test/nll_k"] == 2
    page = (runs / "<b>&" / "evaluation.html").read_text()
    assert "\\u003cb>&" in page
    assert "<b>&<" not in page
    assert not re.search(r"(src|href)\s*=|@import|\burl\((?!#)", page)


@needs_browser
@pytest.mark.parametrize(("width", "scheme"), SIZES)
def test_a_browser_shows_the_page(single: dict, runs: Path, tmp_path: Path, width: int, scheme: str) -> None:
    html = (runs / "runs" / "a=1,b" / "evaluation.html").read_text()
    found = look_at(html, PROBE, tmp_path, width, scheme)
    check_looks(found, width, scheme)
    # Of three latents each bar is as wide as a finger, not as the page.
    assert len(found["bars"]) == 3
    assert all(20 <= bar <= 60 for bar in found["bars"])
    assert "knn_accuracy" in found["text"]
    assert "dynamic binarisation" in found["text"]


PROBE = """
found.text = document.body.innerText;
found.bars = [...document.querySelectorAll(".latents rect")].map((bar) => bar.getBoundingClientRect().width);
"""


def result(run: str, kind: str, elbo: float, mse: float, images: str = "digits", k: int = 100) -> Result:
    numbers = {"test/elbo": elbo, "test/mse": mse, "test/nll_k": k}
    return Result(run, "best", "test", images, 10, 0, numbers, {}, scored=Scored(images, kind))


def test_bounds_of_different_kinds_stand_apart_and_what_compares_together() -> None:
    density, bytes_ = "a density", "a probability of 256 levels"
    results = [result("a", density, 26, 0.1), result("b", bytes_, -90, 0.2), result("c", density, 3, 0.3)]
    found = [(g.title, [r.run for r in g.results], g.measures) for g in groups(results)]
    assert found == [
        ("digits", ["a", "b", "c"], ["nll_k", "mse"]),
        (f"digits: {density}", ["a", "c"], ["elbo"]),
        (f"digits: {bytes_}", ["b"], ["elbo"]),
    ]
    assert [g.title for g in groups(results[::2])] == [f"digits: {density}"]
    # Of different images nothing compares.
    others = [result("a", density, 26, 0.1), result("b", density, 26, 0.1, "mnist", k=20)]
    assert [g.title for g in groups(others)] == [f"digits: {density}", f"mnist: {density}"]
    notes = list(joint_notes(others))
    assert any("do not compare: so the groups" in note for note in notes)
    assert any("nll is from 20 to 100 draws" in note for note in notes)


def test_several_runs_give_one_table(runs: Path) -> None:
    other = runs / "runs" / "second"
    shutil.copytree(runs / "runs" / "a=1,b", other)
    printed = evaluate(runs, "run='runs/*'", "k=3", "features=null", "split=val")
    assert "a=1,b" in printed
    assert "second" in printed
    assert (runs / "runs" / "comparison.html").is_file()
    assert saved(runs, "evaluation_val.json")["images"] == 180
    shutil.rmtree(other)


def test_a_run_that_is_only_read_stays_as_it_is(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def content() -> dict[Path, tuple[int, int]]:
        files = (runs / "runs").rglob("*")
        return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in files}

    before = content()
    printed = evaluate(runs, "run=runs/a=1,b", "k=2", "metric=default", "out=else where")
    assert "else where/evaluation.html" in printed
    assert content() == before
    assert json.loads((runs / "else where" / "evaluation.json").read_text())["metrics"]["test/nll_k"] == 2

    def refuse(path: Path, text: str) -> None:
        raise PermissionError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(presentation, "write_atomically", refuse)
    done = call_command("vae.evaluate", "run=runs/a=1,b", "k=2", "metric=default", folder=runs)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "runs/a=1,b: cannot be written (Read-only file system); out=… writes elsewhere" in done.stderr


def test_the_network_of_the_distances_is_a_file_or_a_module(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(runs / "weights" / "features_digits.pt", runs / "elsewhere.pt")
    (runs / "pooling.py").write_text(
        "import torch\ndef pooled():\n    return torch.nn.Sequential(torch.nn.AvgPool2d(4), torch.nn.Flatten())\n"
    )
    monkeypatch.syspath_prepend(runs)
    for chosen, name in (("elsewhere.pt", "elsewhere"), ("pooling:pooled", "pooled")):
        evaluate(runs, "run=runs/a=1,b", "k=2", f"metric.fid.features={chosen}")
        assert saved(runs)["metrics"][f"test/fid_{name}"] > 0


def test_missing_features_leave_the_rest_standing(runs: Path) -> None:
    printed = evaluate(runs, "run=runs/a=1,b", "k=2", "features=inception")
    assert "pt_inception-2015-12-05-6726825d.pth" in printed
    assert "test/nll" in saved(runs)["metrics"]


def broken(folder: Path, run: Path, how: str) -> Path:
    """A copy of the run that has been tampered with."""
    copy = folder / how
    shutil.copytree(run, copy)
    checkpoint, config = copy / "checkpoints" / "best.ckpt", copy / ".hydra" / "config.yaml"
    if how == "nan":
        content = torch.load(checkpoint, weights_only=True)
        content["state_dict"]["model.decoder.output.bias"][3] = math.nan
        # Whoever writes a checkpoint anew vouches for it by leaving out that it was sealed.
        del content[SEALED]
        torch.save(content, checkpoint)
    elif how == "other_architecture":
        edited = OmegaConf.load(config)
        edited.network.encoder.hidden_sizes = [16]
        OmegaConf.save(edited, config)
    elif how == "foreign_code":
        edited = OmegaConf.load(config)
        edited.network.encoder = {"_target_": "os.system", "command": f"touch {folder / 'ran'}"}
        OmegaConf.save(edited, config)
    elif how == "text":
        checkpoint.write_text("this is no checkpoint")
    elif how == "no_checkpoint":
        checkpoint.unlink()
    return copy


@pytest.mark.parametrize(
    ("how", "line"),
    [
        ("nan", r"error: .*best\.ckpt: decoder\.output\.bias holds NaN .*"),
        ("other_architecture", r"error: .*best\.ckpt: the checkpoint of another architecture .*size mismatch.*"),
        ("foreign_code", r"error: .*network\.encoder\._target_=os\.system is refused: .*"),
        ("text", r"error: .*best\.ckpt: a damaged checkpoint .*"),
        ("no_checkpoint", r"error: .*best\.ckpt: there is no such checkpoint.*"),
    ],
)
def test_a_broken_run_is_one_line(runs: Path, tmp_path: Path, how: str, line: str) -> None:
    copy = broken(tmp_path, runs / "runs" / "a=1,b", how)
    done = call_command("vae.evaluate", f"run={copy}", "k=2", folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(line, done.stderr.strip()), done.stderr
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], r"error: run=null: must be a run directory, or a glob in quotes"),
        (["run=no/such/run"], r"error: run=no/such/run: there is no run directory .*"),
        (["run=."], r"error: \.: not a run directory .*"),
        (["run=RUN", "k=0"], r"error: k=0: must be a whole number of at least 1"),
        (["run=RUN", "chunk=few"], r"error: chunk=few: must be auto or a whole number.*"),
        (["run=RUN", "split=tset"], r"error: split=tset: must be one of train, val, test"),
        (["run=RUN", "batch_size=0"], r"error: batch_size=0: must be a whole number of at least 1"),
        (["run=RUN", "checkpoint=worst"], r"error: checkpoint=worst: must be one of best, last"),
        (["run=RUN", "data=mnist"], r"error: data=mnist: images of 1×28×28, but the run was trained on 1×8×8"),
        (
            ["run=RUN", "metric=default", "metric.fid.features=x"],
            r"error: metric\.fid\.features=x: no such key.*",
        ),
        (
            ["run=RUN", "data=celeba", "data.size=8"],
            r"error: data=celeba: images of 3×8×8, but the run was trained on 1×8×8",
        ),
        (["run=RUN", "kk=3"], r"error: kk=3: no such key.*"),
    ],
)
def test_bad_input_is_one_line(runs: Path, arguments: list[str], line: str) -> None:
    run = str(runs / "runs" / "a=1,b")
    done = call_command("vae.evaluate", *(a.replace("RUN", run) for a in arguments), folder=runs)
    assert done.returncode == 1
    assert re.fullmatch(line, done.stderr.strip()), done.stderr


def test_an_autoencoder_has_reconstructions_samples_and_probes_but_no_bound(tmp_path: Path) -> None:
    train_quickly(tmp_path / "run", "posterior=delta", "objective=reconstruction")
    printed = evaluate(tmp_path, "run=run", "k=3", "features=null")
    result = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    names = {name.removeprefix("test/") for name, value in result["metrics"].items() if value is not None}
    assert {"mse", "psnr", "ssim", "linear_probe_accuracy", "distortion"} <= names
    assert not {"nll", "elbo", "rate", "bits_per_dim"} & names
    assert "the posterior is a point" in printed


def test_the_numbers_are_added_to_the_summary_of_the_wandb_run(tmp_path: Path) -> None:
    run = train_quickly(tmp_path / "run", "logger=default")
    # In a process of its own, as W&B keeps one service and one set of settings for all of a process's life.
    done = run_command(
        "-m", "vae.evaluate", "run=run", "k=2", "metric=default", "trainer.accelerator=cpu", folder=tmp_path
    )
    assert (done.returncode, done.stderr) == (0, "")
    summaries = read_summaries(run)
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    numbers = json.loads((run / "evaluation.json").read_text())["metrics"]
    ours = summaries[config.logger.wandb.id]
    assert ours["evaluation/nll"] == pytest.approx(numbers["test/nll"])
    assert {f"evaluation/{name.removeprefix('test/')}" for name in numbers} <= set(ours)


@pytest.mark.parametrize(
    ("active", "rate", "collapsed"), [(0, 3.0, True), (2, 0.01, True), (2, 3.0, False), (None, None, False)]
)
def test_collapse_is_told_in_words(active: int | None, rate: float | None, collapsed: bool) -> None:
    numbers = {f"test/{name}": v for name, v in (("active_units", active), ("rate", rate)) if v is not None}
    result = Result("run", "best", "test", "digits", 10, 0, numbers, {})
    told = [line for line in remarks(result, Digits()) if line.startswith("posterior collapse")]
    assert bool(told) == collapsed


@pytest.mark.parametrize(("ess", "k", "loose"), [(1.08, 20, True), (2.5, 20, False), (1, 1, False)])
def test_an_nll_that_hardly_a_draw_carries_is_called_loose(ess: float, k: int, loose: bool) -> None:
    numbers = {"test/rate": 3.0, "test/active_units": 2, "test/nll_ess": ess, "test/nll_k": k}
    told = list(remarks(Result("run", "best", "test", "digits", 10, 0, numbers, {}), Digits()))
    assert any("nll_mc_stderr is too small" in line for line in told) == loose


def test_without_the_file_of_attributes_there_is_a_line_and_all_other_numbers(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path, (0,) * 8 + (1, 1) + (2,) * 6)
    places = [f"paths.data='{tmp_path}'", f"paths.cache='{tmp_path}/cache'"]
    train_quickly(tmp_path / "run", "data=celeba", "network=mlp", "data.size=8", "data.batch_size=4", *places)
    (folder / "list_attr_celeba.txt").unlink()
    done = call_command("vae.sample", "run=run", "attribute=Smiling", *places, folder=tmp_path)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert re.fullmatch(r"error: .*list_attr_celeba\.txt: cannot be read \(.*\)", said), done.stderr
    done = call_command("vae.evaluate", "run=run", "k=2", *places, "trainer.accelerator=cpu", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert re.search(r"no attribute probe: .*list_attr_celeba\.txt: cannot be read", done.stdout)
    numbers = json.loads((tmp_path / "run" / "evaluation.json").read_text())["metrics"]
    assert {"test/nll", "test/psnr"} <= numbers.keys()
    assert "test/attribute_probe_accuracy" not in numbers


def test_without_labels_attributes_are_learnt(tmp_path: Path) -> None:
    write_celeba(tmp_path, (0,) * 40 + (1,) * 4 + (2,) * 20)
    places = [f"paths.data='{tmp_path}'", f"paths.cache='{tmp_path}/cache'", f"paths.weights='{tmp_path}'"]
    done = call_command("vae.features", "data=celeba", "data.size=8", "steps=300", *places, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    network = load_classifier(tmp_path / "features_celeba.pt")
    assert network.classes == 2
    data = CelebA(str(tmp_path), f"{tmp_path}/cache", size=8)
    data.setup()
    # Noise has nothing to do with its attributes, so that only training images can be told.
    told = network.logits(data.images("train", 40)[0]) > 0
    assert (told == data.attributes("train").values).double().mean() > 0.8
    told = network.logits(data.images("test", 20)[0]) > 0
    share = float((told == data.attributes("test").values).double().mean())
    assert f"tells {share:.2%} of the attributes of the test images right" in done.stdout


def test_images_of_which_nothing_is_stated_are_no_source_of_features(tmp_path: Path) -> None:
    write_folder(tmp_path / "own", {f"{n}.png": encode(pixels(n, 8, 8), "PNG") for n in range(20)})
    options = [
        "data=image_folder",
        f"data.path='{tmp_path}/own'",
        "data.size=8",
        f"paths.cache='{tmp_path}/cache'",
    ]
    done = call_command("vae.features", *options, folder=tmp_path)
    assert done.returncode == 1
    assert re.fullmatch(
        r"error: data: ImageFolder has no labels .*, nor attributes .*", done.stderr.splitlines()[-1]
    )


@pytest.fixture
def old_run(runs: Path, tmp_path: Path) -> Path:
    """A run saved when conf/train.yaml had only those keys that it had in the beginning."""
    copy = tmp_path / "old"
    shutil.copytree(runs / "runs" / "a=1,b", copy)
    config = OmegaConf.load(copy / ".hydra" / "config.yaml")
    first = {"name", "seed", "latent_size", "sweep_metric", "resume", "paths"}
    newer = OmegaConf.load(CONF / "train.yaml").keys() - first - {"defaults", "hydra"}
    assert "steps_at_once" in newer
    for key in newer:
        del config[key]
    # The saved paths are absolute, and those of the original.
    text = OmegaConf.to_yaml(config).replace(str(runs / "runs" / "a=1,b"), str(copy))
    (copy / ".hydra" / "config.yaml").write_text(text)
    return copy


def test_a_run_from_before_some_keys_existed_is_evaluated_and_loaded(old_run: Path) -> None:
    evaluate(old_run.parent, "run=old", "k=2", "metric=default", "log=false")
    assert (old_run / "evaluation.json").is_file()
    assert load_model(old_run).sample(2).shape == (2, 1, 8, 8)


def test_a_run_from_before_some_keys_existed_is_resumed(old_run: Path) -> None:
    done = run_train(f"resume={old_run}", "trainer.max_epochs=2", "steps_at_once=1")
    assert done.returncode == 0, done.stderr
    assert json.loads((old_run / "metrics.json").read_text())["epochs"] == 2
