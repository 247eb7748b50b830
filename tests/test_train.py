"""The main job, as a user runs it: `python train.py` in a process of its own, on the digits."""

import csv
import json
import re
import socket
import subprocess
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from commands import QUICK, TWO_RANKS, metrics_of, run_train, timeless, weights_of
from offline_wandb import read_offline_run
from vae import load_model


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A run of two epochs with everything on."""
    run = tmp_path_factory.mktemp("runs") / "finished"
    done = run_train(*QUICK, "callback.pictures.every_n_epochs=1", f"hydra.run.dir={run}", VAE_PROGRESS="on")
    assert done.returncode == 0, done.stderr
    return run, done


def test_it_leaves_the_whole_run_directory(finished: tuple[Path, object]) -> None:
    run, _ = finished
    names = {"samples", "reconstructions", "interpolations", "manifold", "latents"}
    assert {p.stem for p in (run / "images").glob("*.png")} == names | {"traversal"}
    assert {p.stem for p in (run / "images" / "epoch_0002").glob("*.png")} == names
    assert {p.name for p in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not (run / ".hydra" / ".lock").exists()
    assert len(list((run / "wandb").glob("offline-run-*/run-*.wandb"))) == 1
    config = OmegaConf.load(run / ".hydra" / "config.yaml")
    assert config.latent_size == 2
    assert "${" not in (run / ".hydra" / "config.yaml").read_text()


def test_its_final_numbers_add_up(finished: tuple[Path, object]) -> None:
    metrics = metrics_of(finished[0])
    assert metrics["epochs"] == 2
    assert metrics["steps"] == 2 * (1257 // 64)
    for stage in ("train", "val", "test"):
        assert metrics[f"{stage}/elbo"] == pytest.approx(
            -(metrics[f"{stage}/distortion"] + metrics[f"{stage}/rate"]), rel=1e-6
        )
    # With enough draws the importance-sampled likelihood is above the bound.
    assert -metrics["test/nll"] > metrics["test/elbo"]
    assert metrics["test/nll_k"] == 2  # a fifth of two epochs' arithmetic is no more
    assert metrics["test/nll_stderr"] > 0
    # A continuous density has no bits.
    assert "test/bits_per_dim" not in metrics


def test_its_validation_numbers_are_those_of_the_best_checkpoint(finished: tuple[Path, object]) -> None:
    with (finished[0] / "metrics.csv").open(newline="") as file:
        best = max(float(row["val/elbo"]) for row in csv.DictReader(file))
    assert metrics_of(finished[0])["val/elbo"] == pytest.approx(best)


def test_its_csv_holds_every_number_in_order_of_steps(finished: tuple[Path, object]) -> None:
    with (finished[0] / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == [19, 38]
    assert all(float(row["train/elbo"]) and float(row["val/elbo"]) for row in rows)
    assert float(rows[-1]["test/elbo"]) == pytest.approx(metrics_of(finished[0])["test/elbo"])


def test_its_wandb_run_has_the_config_the_curves_and_the_pictures_and_is_finished(
    finished: tuple[Path, object],
) -> None:
    run = read_offline_run(finished[0])
    config = OmegaConf.to_container(OmegaConf.load(finished[0] / ".hydra" / "config.yaml"))
    assert {key: run.config[key] for key in config} == config
    assert run.config["logger"]["wandb"]["id"] == run.id
    elbos = [row["val/elbo"] for row in run.history if "val/elbo" in row]
    assert len(elbos) == 2
    assert max(elbos) == pytest.approx(metrics_of(finished[0])["val/elbo"])
    images = {
        key.removesuffix("/_type")
        for row in run.history
        for key, value in row.items()
        if value == "images/separated"
    }
    assert {"test/samples", "test/reconstructions", "val/samples"} <= images
    assert run.exit_code == 0


def test_it_says_where_its_numbers_come_from(finished: tuple[Path, object]) -> None:
    run = finished[0]
    origin = json.loads((run / ".hydra" / "origin.json").read_text())
    assert origin["command"].startswith("python train.py ")
    assert f"hydra.run.dir={run}" in origin["command"]
    assert torch.__version__.startswith(origin["packages"]["torch"])
    assert origin["host"] == socket.gethostname()
    assert origin["images"]["test"].startswith("360 images (")
    logged = read_offline_run(run)
    assert logged.config["command"] == origin["command"]
    assert logged.name == " ".join(["digits", *QUICK[:1], *QUICK[2:]])


def test_it_says_where_things_are(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    run, done = finished
    assert done.stderr == ""
    assert "epoch 2/2 elbo" in done.stdout
    for path in (run / "run.html", run / "images", run / "metrics.json"):
        assert f" {path}\n" in done.stdout
    assert "log p(x) ≥ elbo" in done.stdout.replace(r"\u2265", "≥")  # which not every locale has
    page = (run / "run.html").read_text()
    assert '"state": "done"' in page
    assert page.count("data:image/webp") == len(list((run / "images").rglob("*.png")))


def test_load_model_gives_the_trained_model(finished: tuple[Path, object]) -> None:
    run, _ = finished
    model = load_model(run)
    for name, value in weights_of(run, "best").items():
        torch.testing.assert_close(model.model.state_dict()[name.removeprefix("model.")], value)
    x = torch.rand(3, 1, 8, 8)
    assert model.sample(5).shape == (5, 1, 8, 8)
    assert model.reconstruct(x).shape == x.shape
    assert model.encode(x).mean.shape == (3, 2)
    assert model.decode(torch.zeros(4, 2)).mean.shape == (4, 1, 8, 8)
    assert model.elbo(x).shape == (3,)


def test_the_same_command_gives_the_same_numbers(finished: tuple[Path, object], tmp_path: Path) -> None:
    run_train(*QUICK, "logger=csv", f"hydra.run.dir={tmp_path / 'again'}")
    assert timeless(tmp_path / "again") == timeless(finished[0])


def test_resume_gives_the_weights_of_an_uninterrupted_run(finished: tuple[Path, object], tmp_path: Path) -> None:
    run = tmp_path / "interrupted"
    assert run_train(*QUICK, "trainer.max_epochs=1", "logger=csv", f"hydra.run.dir={run}").returncode == 0
    (run / "metrics.json").unlink()
    resumed = run_train(f"resume={run}", "trainer.max_epochs=2", VAE_PROGRESS="on")
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 1/" not in resumed.stdout
    for name, value in weights_of(finished[0]).items():
        torch.testing.assert_close(weights_of(run)[name], value, rtol=0, atol=0)
    assert {**metrics_of(run), "seconds": 0} == {**metrics_of(finished[0]), "seconds": 0}
    with (run / "metrics.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == [19, 38]


def test_two_ranks_give_the_metrics_of_one(tmp_path: Path) -> None:
    # With a learning rate of 0 the weights cannot differ, so that only the counting can.
    frozen = [*QUICK, "optimizer.lr=0", "data.eval_batch_size=50", "trainer.max_epochs=1"]
    one, two = tmp_path / "one", tmp_path / "two"
    assert run_train(*frozen, "logger=csv", f"hydra.run.dir={one}").returncode == 0
    done = run_train(*frozen, *TWO_RANKS, f"hydra.run.dir={two}")
    assert done.returncode == 0, done.stderr
    evaluated = [name for name in metrics_of(one) if name.startswith(("val/", "test/"))]
    assert len(evaluated) > 10
    for name in evaluated:
        assert metrics_of(two)[name] == pytest.approx(metrics_of(one)[name], rel=1e-6), name
    # One run directory, one W&B run, whatever the number of ranks.
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert len(list((two / "wandb").glob("offline-run-*"))) == 1


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["latent_sze=3"], r"error: latent_sze=3: no such key; did you mean latent_size=3\?"),
        (["likelihood.sgma=1"], r"error: likelihood\.sgma=1: no such key; did you mean likelihood\.sigma=1\?"),
        (["likelihood=gausian"], "error: likelihood=gausian: must be one of bernoulli, .*gaussian, .*"),
        (["latent_size=0"], "error: latent_size=0: must be a whole number from 1 to 1048576"),
        (["latent_size=two"], "error: latent_size=two: must be a whole number from 1 to 1048576"),
        (["objective.k=0"], r"error: objective\.k=0: must be a whole number of at least 1"),
        (["likelihood.sigma=0"], r"error: likelihood\.sigma=0: must be a number above 0"),
        (["data.batch_size=0"], r"error: data\.batch_size=0: must be auto or a whole number of at least 1"),
        (["data=mnist", "paths.data=/nowhere"], "error: paths.data=/nowhere: MNIST is not there.* put .*/raw/"),
        (["resume=/nowhere"], "error: resume=/nowhere: not a run directory .*"),
        (["likelihood=gaussian_learned", "likelihood.sigma=1"], r"error: likelihood\.sigma=1: no such key.*"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    done = run_train(
        *arguments, "logger=csv", *([] if "resume" in arguments[0] else [f"hydra.run.dir={tmp_path}"])
    )
    assert done.returncode == 1
    # What the images bring, and what is chosen for the model, is said before the images are looked for.
    assert [said for said in done.stdout.splitlines() if not re.search(" bring |^auto chose ", said)] == []
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert re.fullmatch(line + ".*", lines[0]), lines[0]
