"""All the pictures of a trained run that `python -m vae.sample` makes."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from hydra.utils import instantiate
from jaxtyping import Float
from omegaconf import DictConfig, ListConfig
from torch import Tensor, nn

from vae.checks import ConfigError, check_choice, check_int, check_number
from vae.data import ImageDataModule
from vae.generation.given_images import read_images
from vae.generation.latent_rate import approximate_rates
from vae.generation.output import Output
from vae.picture import rows as picture
from vae.picture.figure import as_bytes, find_ffmpeg, save_animation
from vae.random import generator, set_draws
from vae.run.directory import RunDirectory
from vae.trained.attribute import direction, moved
from vae.trained.load import load_model, run_data
from vae.trained.nearest import nearest
from vae.training.build import data_name

PICTURES = (
    "samples",
    "reconstructions",
    "interpolation",
    "traversal",
    "manifold",
    "neighbors",
    "progress",
    "attribute",
)
ROWS = 32
"""Of a traversal, at most."""
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
        self.model = load_model(config.run, config.checkpoint)
        run_config = self.run.config()
        self.corruption: nn.Module | None = instantiate(run_config.get("corruption"))
        self.data = self.model.data = run_data(run_config, config.paths)
        title = (
            f"{data_name(self.data)}, {type(self.model.model.likelihood).__name__},"
            f" {run_config.latent_size} latents, {config.checkpoint} checkpoint of {self.run.path.name}"
        )
        folder = Path(config.out) if config.out else self.run.path / "samples"
        self.output = Output(folder, title, config.format, _listed(config.save))

    def draw(self) -> Iterator[Path]:
        """Draw all that is asked for; the paths of the files."""
        ways: dict[str, Callable[[], Iterator[Path]]] = {name: getattr(self, name) for name in PICTURES}
        for name in self.wanted():
            yield from ways[name]()

    def wanted(self) -> list[str]:
        """The names of the pictures that are asked for."""
        asked = self.config.picture
        if asked is None:
            if self.config.attribute:
                return ["attribute"]
            return ["reconstructions" if self.config.images else "samples"]
        if asked == "all":
            possible = {"manifold": self.model.latent_size == 2, "attribute": bool(self.config.attribute)}
            possible["progress"] = any(self.run.images.glob("epoch_*"))
            return [name for name in PICTURES if possible.get(name, True)]
        return [check_choice("picture", name, (*PICTURES, "all")) for name in _listed(asked)]

    def samples(self) -> Iterator[Path]:
        """New images."""
        self._use_source()
        drawn = self.model.sample(self.n, self.temperature, self.seed, self.config.show)
        what = f"{self.config.show} from the {self.config.source}"
        what += f", temperature {self.temperature:g}" if self.temperature != 1 else ""
        yield from self.output.save("samples", drawn, math.ceil(math.sqrt(self.n)), what)

    def _use_source(self) -> None:
        """Put the fitted density in the prior's place, if that is asked for."""
        if check_choice("source", self.config.source, ("prior", "density")) == "density":
            images = self._ready().images("train", 10_000)[0]
            self.model.fit_density(images, check_int("components", self.config.components))

    def reconstructions(self) -> Iterator[Path]:
        """Images above their reconstructions, with what the encoder sees between the two if that differs."""
        x = self._images(self.n)
        seen = self._seen(x)
        restored = self.model.reconstruct(x if seen is None else seen.clamp(0, 1))
        columns = min(8, len(x))
        kinds = [images for images in (x, seen, restored) if images is not None]
        padded = [nn.functional.pad(kind, (0,) * 7 + (-len(x) % columns,), value=1) for kind in kinds]
        rows = torch.stack([kind.unflatten(0, (-1, columns)) for kind in padded], 1)
        names = ["original", "seen", "restored"] if seen is not None else ["original", "restored"]
        given = [Path(pattern).name for pattern in _listed(self.config.images)] if self.config.images else []
        what = f"reconstructions of {', '.join(given) or 'test images'}"
        yield from self.output.save(
            "reconstructions",
            restored,
            columns,
            what,
            rows.flatten(0, 2),
            names * (len(rows) if columns > 2 else 0),
        )

    def _seen(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"] | None:
        """What the encoder sees of x, if that is not x itself."""
        if self.corruption is None or isinstance(self.corruption, nn.Identity):
            return None
        with torch.random.fork_rng(devices=[]):
            set_draws(self.seed, torch.device("cpu"))
            return self.corruption(x)

    def interpolation(self) -> Iterator[Path]:
        """From one image to another: a strip and an animation."""
        x = self._images(2 if self.config.images else 8)
        if len(x) < 2:
            raise ConfigError(f"images={self.config.images}: interpolation needs two images")
        start, end = x[0::2][: len(x) // 2], x[1::2]
        kind = self.config.interpolation
        way = self.model.interpolate(start, end, self.steps, kind)
        yield from self.output.save("interpolation", way.flatten(0, 1), self.steps, f"{kind} interpolation")
        suffix = self.config.animation
        if suffix:
            frames = self.model.interpolate(start, end, FRAMES, kind).movedim(1, 0)  # (frames, pairs, C, H, W)
            forth = [as_bytes(picture.grid(frame, 2)) for frame in frames]
            path = self.output.folder / f"interpolation.{suffix}"
            save_animation(path, forth + forth[-2:0:-1], SECONDS)
            yield path

    def traversal(self) -> Iterator[Path]:
        """Each latent from −3 to 3, the one that says the most first, about the code of the first image.

        Not about zero: of many latents of a normal prior hardly a draw lies there, nor what decodes to an image.
        """
        x = self._images(500)
        rates = approximate_rates(self.model.model, self.model.x(x))
        order = rates.argsort(descending=True)[:ROWS]
        way = self.model.traverse(x[:1], self.steps)[order]
        names = [f"z{d} {rates[d]:.2f}" for d in order.tolist()]
        which = f"the {ROWS} latents of largest rate" if len(rates) > ROWS else "each latent"
        image = "the given image" if self.config.images else "a test image"
        what = f"{which} from −3 to 3, the others those of {image}; beside it its rate in nats"
        yield from self.output.save("traversal", way.flatten(0, 1), self.steps, what, row_names=names)

    def manifold(self) -> Iterator[Path]:
        """With two latents: the images on a grid of equally probable z."""
        if self.model.latent_size != 2:
            raise ConfigError(f"picture=manifold: needs latent_size=2, but this run has {self.model.latent_size}")
        side = 20
        quantiles = torch.special.ndtri(torch.linspace(0.5 / side, 1 - 0.5 / side, side))
        z = torch.cartesian_prod(quantiles.flip(0), quantiles).flip(1)
        yield from self.output.save(
            "manifold", self.model.images_of(z), side, "E[x|z] over quantiles of z₁ (→) and z₂ (↑)"
        )

    def neighbors(self) -> Iterator[Path]:
        """Samples beside the training images that are nearest to them, to see memorisation."""
        self._use_source()
        count = min(self.n, 10)
        drawn = self.model.sample(count, self.temperature, self.seed)
        found, distances = nearest(drawn, self._ready(), neighbors=6)
        rows = torch.cat([drawn[:, None], found], 1).flatten(0, 1)
        names = [f"rmse {distance:.3f}" for distance in distances[:, 0].tolist()]
        what = "samples (left) and their nearest training images"
        yield from self.output.save("neighbors", drawn, 7, what, rows, names)

    def progress(self) -> Iterator[Path]:
        """The samples that were drawn while the run trained, as a GIF."""
        from PIL import Image

        files = sorted(self.run.images.glob("epoch_*/samples.png"))
        if not files:
            raise ConfigError(
                f"picture=progress: {self.run.images} has no epoch_*/samples.png; train with"
                " callback.pictures.every_n_epochs above 0"
            )
        frames = [np.array(Image.open(file).convert("RGB")) for file in files]
        path = self.output.folder / "progress.gif"
        save_animation(path, [*frames, *[frames[-1]] * 3], 0.5)
        yield path

    def attribute(self) -> Iterator[Path]:
        """Images with an attribute taken away and added."""
        if not self.config.attribute:
            raise ConfigError("attribute=null: name one of the data's attributes, as in attribute=Smiling")
        along = direction(self.model.model, self._ready(), self.config.attribute)
        x = self._images(8)[:8]
        strengths = torch.linspace(-2, 2, self.steps)
        with torch.no_grad():
            way = moved(self.model.model, x, along, strengths)
        what = f"{self.config.attribute}: taken away (left, −2) to added (right, +2)"
        yield from self.output.save("attribute", way.flatten(0, 1), self.steps, what)

    def _images(self, count: int) -> Float[Tensor, "N C H W"]:
        """The files that are given, or else images of the test split, drawn by the seed, as x."""
        if self.config.images:
            return self.model.x(read_images(_listed(self.config.images), self.data))
        x = self._ready().images("test", 10_000)[0]
        order = torch.randperm(len(x), generator=generator("pictures of sample", self.seed))
        return x[order[:count]]

    def _ready(self) -> ImageDataModule:
        """The data module with its images read."""
        if not self.data.subsets:
            self.data.prepare_data()
            self.data.setup()
        return self.data


def _listed(value: object) -> list[str]:
    """One name or a list of them as a list."""
    return [str(each) for each in value] if isinstance(value, list | ListConfig) else [str(value)]
