"""A path may hold any printable character: all of them are in the folders here."""

from pathlib import Path

import pytest
from PIL import Image

from commands import TWO_RANKS, Ended, call_command, metrics_of, run_train
from vae.command.override import override

ODD = "".join(chr(code) for code in range(32, 127) if chr(code) != "/") + "ä"
QUICK = (
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "network.hidden_sizes=[8]",
    "latent_size=2",
    "callback=none",
    "logger=csv",
    "metric.test.nll.k=2",
)


def done(ended: Ended) -> None:
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in an odd folder, of images in another, with a cache in a third."""
    folder = tmp_path_factory.mktemp("odd")
    images, run = folder / f"images {ODD}", folder / f"run {ODD}"
    for split, count in (("train", 12), ("val", 1), ("test", 1)):
        for number in range(count):
            (images / split).mkdir(parents=True, exist_ok=True)
            Image.new("L", (8, 8), 20 * number).save(images / split / f"{number}.png")
    more = ["data=image_folder", "network=mlp", "data.size=8", "data.channels=1", "data.batch_size=4"]
    paths = {"data.path": images, "paths.cache": folder / f"cache {ODD}", "hydra.run.dir": run}
    typed = [override(key, path) for key, path in paths.items()]
    done(call_command("vae.train", *QUICK, *more, *typed, folder=folder))
    return run


def test_a_run_is_resumed_evaluated_and_sampled(run: Path) -> None:
    done(call_command("vae.train", f"resume={run}", "trainer.max_epochs=2", folder=run.parent))
    assert metrics_of(run)["epochs"] == 2
    # One image is no reason for an error either.
    done(call_command("vae.evaluate", f"run={run}", "k=2", "metric=default", folder=run.parent))
    ended = call_command("vae.sample", f"run={run}", "picture=all", "n=4", folder=run.parent)
    done(ended)
    assert "no interpolation: " in ended.stderr
    for name in ("samples", "reconstructions", "traversal", "manifold", "neighbors"):
        assert (run / "samples" / f"{name}.png").exists(), ended.stderr


def test_control_characters_are_refused_before_a_run_begins(tmp_path: Path) -> None:
    run = tmp_path / "two\nlines"
    ended = call_command("vae.train", *QUICK, override("hydra.run.dir", run), folder=tmp_path)
    assert ended.returncode == 1
    assert "must have no control characters in it" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert list(run.iterdir()) == []


@pytest.mark.slow
def test_two_ranks_find_it(tmp_path: Path) -> None:
    run = tmp_path / ODD
    ended = run_train(*QUICK, *TWO_RANKS, override("hydra.run.dir", run))
    assert ended.returncode == 0, ended.stderr
    ended = run_train(f"resume={run}", "trainer.max_epochs=2")
    assert ended.returncode == 0, ended.stderr
    assert metrics_of(run)["epochs"] == 2


@pytest.mark.slow
def test_a_sweep_is_resumed(tmp_path: Path) -> None:
    sweep = tmp_path / ODD
    typed = ["-m", "seed=0,1", *QUICK, override("hydra.sweep.dir", sweep)]
    for arguments in (typed, [f"resume={sweep}", "-m"]):
        ended = run_train(*arguments)
        assert ended.returncode == 0, ended.stderr
    assert (sweep / "report.html").exists()
    assert metrics_of(sweep / "seed=1")["epochs"] == 1
