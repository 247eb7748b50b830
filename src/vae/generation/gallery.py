"""All the pictures of a trained run that `python -m vae.sample` makes, and the forms in which they are kept."""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Float, Int64
from omegaconf import DictConfig, ListConfig
from torch import Tensor, nn

from vae.checks import ConfigError, check_choice, check_int, check_number
from vae.data import ImageDataModule
from vae.generation.given_images import read_images
from vae.metric.rate_per_latent import mean_rates
from vae.page.curves import read_curves
from vae.picture.code_sheets import code_sheets
from vae.picture.figure import (
    SUFFIXES,
    find_ffmpeg,
    frame,
    read_sheet,
    save_animation,
    save_figure,
    save_single_images,
)
from vae.picture.latent_walk import interpolate, move
from vae.picture.sheet import (
    Sheet,
    interpolation_sheet,
    manifold_sheet,
    movement_sheet,
    reconstructions_sheet,
    samples_sheet,
    seen_by_encoder,
    traversal_sheet,
)
from vae.progress import task
from vae.random import generator
from vae.run.directory import RunDirectory
from vae.run.files import check_folder
from vae.trained.attribute import direction
from vae.trained.load import load_model, run_data
from vae.trained.nearest import nearest
from vae.training.build import data_name

PICTURES = (
    "samples",
    "reconstructions",
    "interpolation",
    "traversal",
    "manifold",
    "codes",
    "neighbors",
    "progress",
    "attribute",
)
FORMS = ("grid", "single", "npz")
FRAMES, SECONDS = 30, 0.08
"""Of an animated interpolation."""


class Gallery:
    """Draws the pictures of one run.

    Args:
        config: conf/sample.yaml.

    Raises:
        ConfigError: something asked for is impossible, or the run cannot be loaded.
    """

    def __init__(self, config: DictConfig):
        self.config = config
        if not config.run:
            raise ConfigError("run=null: give a run directory, as in run=runs/digits/…")
        self.run = RunDirectory(config.run)
        self.n, self.steps = check_int("n", config.n), check_int("steps", config.steps, minimum=2)
        self.seed = check_int("seed", config.seed, minimum=0)
        check_choice("show", config.show, ("means", "samples"))
        if config.animation and check_choice("animation", config.animation, ("gif", "mp4")) == "mp4":
            find_ffmpeg()
        self.temperature = check_number("temperature", config.temperature, minimum=0)
        self.suffix = "." + check_choice("format", config.format, [suffix[1:] for suffix in SUFFIXES])
        self.forms = [check_choice("save", form, FORMS) for form in _listed(config.save)]
        if not config.out:
            check_folder(self.run.path)
        self.folder = Path(config.out) if config.out else self.run.path / "samples"
        self.model = load_model(config.run, config.checkpoint)
        run_config = self.run.config()
        self.corruption: nn.Module | None = instantiate(run_config.get("corruption"))
        self.data = self.model.data = run_data(run_config, config.paths)
        self.data.note = self.run.compare_images
        self.title = (
            f"{data_name(self.data)}, {type(self.model.model.likelihood).__name__},"
            f" {run_config.latent_size} latents, {config.checkpoint} checkpoint of {self.run.path.name}"
        )

    def draw(self) -> Iterator[Path]:
        """Draw all that is asked for; the paths of the files.

        Of `picture=all` those that cannot be drawn of this run are left out, with a line that says why.
        """
        ways: dict[str, Callable[[], Iterator[Path]]] = {name: getattr(self, name) for name in PICTURES}
        for name in self.wanted():
            try:
                with task(f"drawing {name}"):
                    paths = list(ways[name]())
                yield from paths
            except ConfigError as error:
                if self.config.picture != "all":
                    raise
                print(f"no {name}: {error}", file=sys.stderr)

    def wanted(self) -> list[str]:
        """Return the names of the pictures that are asked for."""
        asked = self.config.picture
        if asked is None:
            if self.config.attribute:
                return ["attribute"]
            return ["reconstructions" if self.config.images else "samples"]
        if asked == "all":
            codes = self.model.model.posterior.codes is not None
            possible = {
                "manifold": self.model.latent_size == 2 and not codes,
                "codes": codes,
                "traversal": not codes,
            }
            possible["attribute"] = bool(self.config.attribute)
            possible["progress"] = any(self.run.images.glob("epoch_*"))
            return [name for name in PICTURES if possible.get(name, True)]
        return [check_choice("picture", name, (*PICTURES, "all")) for name in _listed(asked)]

    def save(self, name: str, sheet: Sheet, images: Float[Tensor, "N C H W"] | None = None) -> Iterator[Path]:
        """Save a sheet in the forms that are asked for, and give the paths.

        Args:
            name: of the files, without their ending.
            sheet: what `save=grid` draws.
            images: what is saved singly and as an array, if not those of the sheet.
        """
        images = sheet.images if images is None else images
        self.folder.mkdir(parents=True, exist_ok=True)
        if "grid" in self.forms:
            path = self.folder / f"{name}{self.suffix}"
            save_figure(path, replace(sheet, title=f"{sheet.title} · {self.title}"))
            yield path
        if "single" in self.forms:
            save_single_images(self.folder / name, images)
            yield self.folder / name
        if "npz" in self.forms:
            path = self.folder / f"{name}.npz"
            np.savez_compressed(path, images=images.detach().cpu().numpy())
            yield path

    def samples(self) -> Iterator[Path]:
        """New images."""
        drawn = self._drawn(self.n)
        means = "E[x|z]" if self.config.show == "means" else "Draws from p(x|z)"
        heated = f", temperature {self.temperature:g}" if self.temperature != 1 else ""
        source = "prior" if self.config.source == "prior" else "density fitted to the codes of training images"
        of = "" if self.config.label is None else f", label {', '.join(_listed(self.config.label))}"
        yield from self.save("samples", samples_sheet(drawn, f"{means} for z from the {source}{heated}{of}"))

    def _drawn(self, n: int) -> Float[Tensor, "N C H W"]:
        """n samples, from the prior or from the fitted density in its place."""
        if check_choice("source", self.config.source, ("prior", "density")) == "density":
            images = self._ready().images("train", 10_000)[0]
            self.model.fit_density(images, check_int("components", self.config.components))
        return self.model.sample(n, self.temperature, self.seed, self.config.show, self.config.label)

    def reconstructions(self) -> Iterator[Path]:
        """Save images beside their reconstructions, with what the encoder sees between the two if that differs."""
        x = self._images(self.n)
        seen = seen_by_encoder(self.corruption, x, self.seed)
        restored = self.model.reconstruct(x if seen is None else seen.clamp(0, 1), self._labels(len(x)))
        given = [Path(pattern).name for pattern in _listed(self.config.images)] if self.config.images else []
        sheet = reconstructions_sheet(x, restored, seen, ", ".join(given) or "test images")
        yield from self.save("reconstructions", sheet, restored)

    def interpolation(self) -> Iterator[Path]:
        """From one image to another: a strip and an animation."""
        x = self._images(2 if self.config.images else 16)
        if len(x) < 2:
            raise ConfigError(f"images={self.config.images}: interpolation needs two images")
        start, end, kind = x[0::2][: len(x) // 2], x[1::2], self.config.interpolation
        model = self.model.model
        yield from self.save("interpolation", interpolation_sheet(model, start, end, self.steps, kind))
        if self.config.animation:
            frames = interpolate(model, start, end, FRAMES, kind).movedim(1, 0)  # (frames, pairs, C, H, W)
            columns = min(4, len(start))
            forth = [Sheet(images, columns).pixels() for images in frames]
            path = self.folder / f"interpolation.{self.config.animation}"
            save_animation(path, forth + forth[-2:0:-1], SECONDS)
            yield path

    def traversal(self) -> Iterator[Path]:
        """Save the latents that say the most, each from −3 to 3, about the code of the first image.

        Not about zero: of many latents of a normal prior hardly a draw lies there, nor what decodes to an image.
        """
        if self.model.model.posterior.codes is not None:
            raise ConfigError("picture=traversal: the latents of this run are codes; picture=codes shows them")
        q = self.model.encode(self._images(500))
        rates = mean_rates(self.model.model, q).cpu()
        of = "the given image" if self.config.images else "a test image"
        yield from self.save("traversal", traversal_sheet(self.model.model, q.mean[0], rates, self.steps, of=of))

    def manifold(self) -> Iterator[Path]:
        """With two latents: the images on a grid of equally probable z."""
        yield from self.save("manifold", manifold_sheet(self.model.model))

    def codes(self) -> Iterator[Path]:
        """Codes: those of images, and samples beside samples of codes that are equally probable."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(generator("codes", self.seed).get_state())
            sheets = code_sheets(self.model.model, self._images(32)[:32], "test images")
        for name, sheet in sheets.items():
            yield from self.save(name, sheet)

    def neighbors(self) -> Iterator[Path]:
        """Samples beside the training images that are nearest to them, to see memorisation."""
        drawn = self._drawn(min(self.n, 10)).cpu()
        found, distances = nearest(drawn, self._ready(), neighbors=6)
        together = torch.cat([drawn[:, None], found], 1)
        names = [f"{distance:.3f}" for distance in distances[:, 0].tolist()]
        columns = ["sample", *(f"{place + 1}." for place in range(found.shape[1]))]
        title = "Samples and the training images nearest to them"
        sheet = Sheet(together.flatten(0, 1), together.shape[1], title, names, columns, y="rmse to the nearest")
        yield from self.save("neighbors", sheet, drawn)

    def progress(self) -> Iterator[Path]:
        """Save the samples that were drawn while the run trained as a GIF, with the bound that was reached."""
        files = sorted(self.run.images.glob("epoch_*/samples.png"))
        if not files:
            raise ConfigError(
                f"picture=progress: {self.run.images} has no epoch_*/samples.png; train with"
                " callback.pictures.every_n_epochs above 0"
            )
        curve = read_curves(self.run.path / "metrics.csv").get("val/elbo")
        elbo = dict(zip(curve.epochs, curve.values, strict=True)) if curve else {}
        frames = []
        for file in files:
            epoch = int(file.parent.name.removeprefix("epoch_"))
            bound = f", elbo {elbo[epoch]:.4g} nats" if epoch in elbo else ""
            pixels = torch.from_numpy(read_sheet(file)[0][..., :3].copy()).movedim(-1, 0)[None] / 255
            frames.append(frame(Sheet(pixels, 1, f"Samples after epoch {epoch}{bound}")))
        path = self.folder / "progress.gif"
        save_animation(path, [*frames, *[frames[-1]] * 3], 0.5)
        yield path

    def attribute(self) -> Iterator[Path]:
        """Save images with an attribute taken away and added."""
        if not self.config.attribute:
            raise ConfigError("attribute=null: name one of the data's attributes, as in attribute=Smiling")
        along = direction(self.model.model, self._ready(), self.config.attribute)
        strengths = torch.linspace(-2, 2, self.steps)
        way = move(self.model.model, self._images(8)[:8], along, strengths)
        yield from self.save("attribute", movement_sheet(way, strengths, self.config.attribute))

    def _labels(self, count: int) -> Sequence[int] | int | None:
        """Return the classes of `_images`, for a model that is told them; `label` says those of given files."""
        if self.config.images or not self.model.model.classes:
            return self.config.label if self.model.model.classes else None
        labels = self._ready().images("test", 10_000)[1]
        return labels[self._order(len(labels))[:count]].tolist()

    def _order(self, count: int) -> Int64[Tensor, " N"]:
        return torch.randperm(count, generator=generator("pictures of sample", self.seed))

    def _images(self, count: int) -> Float[Tensor, "N C H W"]:
        """Return the files that are given, or else images of the test split, drawn by the seed, as x."""
        if self.config.images:
            return self.model.x(read_images(_listed(self.config.images), self.data))
        x = self._ready().images("test", 10_000)[0]
        return x[self._order(len(x))[:count]]

    def _ready(self) -> ImageDataModule:
        """Return the data module with its images read."""
        if not self.data.subsets:
            self.data.prepare_data()
            self.data.setup()
        return self.data


def _listed(value: object) -> Sequence[str]:
    """Return one name or a list of them as a list."""
    return [str(each) for each in value] if isinstance(value, list | ListConfig) else [str(value)]
