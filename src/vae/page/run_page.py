"""run.html: what a run was told, how it went, what it found, and what to make of it."""

import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from math import isfinite
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vae.command.interruption import obey_signal
from vae.metric.definition import definition, position
from vae.page.curves import Curve, read_curves
from vae.page.page import page, picture
from vae.page.verdict import Remark, bound_sentence, command_of, path_argument, verdict
from vae.paths import TRAIN
from vae.picture.sheet import latent_name
from vae.run.directory import RunDirectory
from vae.run.files import write_atomically

FRAMES = 20
"""Epochs, at most, whose pictures the page holds."""
SIDE = 760
"""Pixels, at most, of a picture."""
BYTES = 4_500_000
"""Of all pictures together, at most, so that the page stays below 6 MB."""
ORDER = ("samples", "samples_density", "reconstructions", "manifold", "latents", "interpolations", "traversal")
TILES = (("elbo", "nats"), ("nll", "nats"), ("rate", "nats"), ("distortion", "nats"), ("active_units", "latents"))
TOLD = (
    ("data", "data"),
    ("network", "network.encoder"),
    ("posterior", "posterior"),
    ("prior", "prior"),
    ("likelihood", "likelihood"),
    ("objective", "objective"),
    ("optimizer", "optimizer"),
    ("corruption", "corruption"),
)


def write_run_page(
    run: RunDirectory, state: str, epoch: int, reason: str = "", seconds_between: float = 10
) -> Path:
    """Write run.html into a run's directory, as things stand now; its path.

    Args:
        run: the run.
        state: `training`, `done`, `interrupted` or `failed`.
        epoch: how many have been completed.
        reason: why it failed.
        seconds_between: how long it takes until the page is written again.
    """
    data = run_data(run, state, epoch, reason) | {"seconds_between": seconds_between}
    path = run.path / "run.html"
    write_atomically(path, page(data["title"], "run", data))
    return path


def keep_run_page(
    run: RunDirectory, state: str, epoch: int, reason: str = "", seconds_between: float = 10, quiet: bool = False
) -> bool:
    """Write run.html as `write_run_page` does; what keeps it from being written ends no training.

    Args:
        quiet: whether to say nothing of that, as it has been said.

    Returns:
        Whether it has been written.
    """
    try:
        write_run_page(run, state, epoch, reason, seconds_between)
    except OSError as error:
        obey_signal(error)
        if not quiet:
            why = error.strerror or error  # Pillow's, of a damaged picture, have no number
            print(f"warning: {run.path / 'run.html'}: cannot be written ({why})", file=sys.stderr)
        return False
    return True


def run_data(run: RunDirectory, state: str, epoch: int, reason: str = "") -> dict[str, Any]:
    """Everything that the page shows."""
    config = run.config()
    metrics = run.metrics() if state == "done" and run.metrics_file.is_file() else {}
    curves = read_curves(run.path / "metrics.csv")
    remarks = verdict(run, config, curves, metrics)
    if state == "failed":
        remarks.insert(0, Remark("warning", reason))
    elif state == "interrupted":
        go_on = f"{TRAIN} resume={path_argument(run.path)}"
        remarks.insert(0, Remark("note", "the run was interrupted; it goes on from its last checkpoint", go_on))
    return {
        "title": f"{config.name} · {run.path.name}",
        "state": state,
        "epoch": epoch,
        "epochs": config.trainer.max_epochs,
        "written": f"{datetime.now():%Y-%m-%d %H:%M:%S}",
        "command": command_of(run),
        "tiles": list(_tiles(metrics, curves)),
        "bound": bound_sentence(metrics),
        "remarks": [remark._asdict() for remark in remarks],
        "curves": {name: curve.thinned()._asdict() for name, curve in sorted(curves.items())},
        "latents": [latent_name(d) for d in range(config.latent_size)],
        "pictures": pictures(run.images),
        "numbers": list(_numbers(metrics)),
        "told": list(_told(config)),
        "cost": list(_cost(run, metrics)),
        "config": OmegaConf.to_yaml(config),
    }


def _tiles(metrics: Mapping[str, float], curves: Mapping[str, Curve]) -> Iterator[tuple[str, str, str]]:
    """Yield the few numbers on top: of the test images or, until then, of the validation images."""
    for name, unit in TILES:
        value = metrics.get(f"test/{name}")
        split = "test"
        if not metrics and f"val/{name}" in curves:
            value, split = curves[f"val/{name}"].values[-1], "validation"
        if value is not None and isfinite(value):
            yield f"{split} {name.replace('_', ' ')}", f"{value:.4g}".replace("-", "−"), unit


def _numbers(metrics: Mapping[str, float]) -> Iterator[tuple[str, float | None, str, str]]:
    """Yield every number of the test and validation images with its unit and definition."""
    measured = [name for name in metrics if name.startswith(("test/", "val/"))]
    for name in sorted(measured, key=lambda name: (name.startswith("val/"), position(name.partition("/")[2]))):
        unit, meaning, *_ = definition(name.partition("/")[2])
        yield name, metrics[name], unit, meaning


def _told(config: DictConfig) -> Iterator[tuple[str, str]]:
    for name, key in TOLD:
        part = OmegaConf.select(config, key)
        if not part:
            continue
        options = {k: v for k, v in part.items() if not str(k).startswith("_") and not OmegaConf.is_dict(v)}
        shown = ", ".join(
            f"{k}={v}" for k, v in options.items() if k not in ("path", "cache", "seed", "split_seed")
        )
        yield name, f"{str(part.get('_target_', '')).rpartition('.')[2]}{': ' if shown else ''}{shown}"
    for key in ("latent_size", "trainer.max_epochs", "trainer.precision", "seed", "init", "start_from_mean"):
        yield key, str(OmegaConf.select(config, key))


def _cost(run: RunDirectory, metrics: Mapping[str, float]) -> Iterator[tuple[str, Any]]:
    for name in ("parameters", "epochs", "steps", "best_step", "seconds"):
        if name in metrics:
            yield name, metrics[name]
    yield from ((name, value) for name, value in run.origin().items() if value)


def pictures(folder: Path) -> list[dict[str, Any]]:
    """Return every kind of picture with its frames: some epochs', and the final one, whose epoch is null."""
    epochs = sorted(folder.glob("epoch_*"))
    every = -(-len(epochs) // FRAMES) if epochs else 1
    # Counted from the end, as the latest is what one looks at first; and the first is where it all began.
    kept = [*epochs[:1], *epochs[1:][::-1][::every][::-1]]
    while True:
        found = [_frames(folder, name, kept) for name in ORDER]
        kinds = [kind for kind in found if kind["frames"]]
        size = sum(len(frame["src"]) for kind in kinds for frame in kind["frames"])
        if size <= BYTES or len(kept) <= 1:
            return kinds
        kept = [*kept[:1], *kept[1:][::-1][::2][::-1]] if len(kept) > 2 else []


WORDS = {
    "samples_density": "In many dimensions nearly all of the prior lies where hardly an image was encoded, so that"
    " samples from it look worse than the model is. Here z is from a mixture of Gaussians that is fitted to the"
    " codes of training images, as with python -m vae.sample source=density.",
    "traversal": "Each row moves one latent and leaves the others: what that latent is about.",
    "manifold": "The whole latent space, each part as large as its probability.",
    "latents": "A point for each image, where its posterior has its mean.",
}
"""What is said below a kind of picture."""


def _frames(folder: Path, name: str, epochs: list[Path]) -> dict[str, Any]:
    places = [(int(path.name.removeprefix("epoch_")), path / f"{name}.png") for path in epochs]
    files: list[tuple[int | None, Path]] = [*places, (None, folder / f"{name}.png")]
    frames = [
        {"epoch": epoch} | _picture(path, path.stat().st_mtime_ns) for epoch, path in files if path.is_file()
    ]
    return {"name": name, "frames": frames, "word": WORDS.get(name)}


@lru_cache(maxsize=256)
def _picture(path: Path, changed: int) -> dict[str, Any]:
    """Return a picture for the page; those that have not changed since it was written last are not read again."""
    return picture(path, SIDE)
