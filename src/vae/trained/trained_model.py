"""TrainedModel: what `load_model` gives, for use from Python."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from math import prod

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.distributions import Distribution, MixtureSameFamily
from zuko.distributions import NormalizingFlow

from vae.bound.codes import OfCodes
from vae.bound.importance import LogMarginal
from vae.bound.maps import as_maps, as_vector
from vae.checks import ConfigError, check_int, check_number
from vae.data import ImageDataModule
from vae.model import LatentModel
from vae.picture.latent_walk import BATCH, images_at, interpolate, traverse
from vae.prior.fitted_density import fit_density
from vae.random import generator, set_draws
from vae.trained.image_input import Images, as_tensor

Label = int | Sequence[int] | None
"""y of all images or z, or of each."""


class TrainedModel:
    """A trained LatentModel that takes images as people have them.

    Wherever `images` are taken, they may be a NumPy array, a uint8 or float tensor, a PIL image or a list of
    these; bytes are 0…255 and floats in [0, 1]; (C, H, W), (H, W, C) or, if grey, (H, W); one or a batch. A
    single image is a batch of one: results always have the batch axis. Images come back as floats in [0, 1]
    (a Gaussian mean may be slightly beyond). Nothing here computes gradients; `model` is the LatentModel
    itself, for everything else.

    A model of binarised images takes 0 and 1; bytes are binarised as they were in training, for `dynamic`
    with draws that are the same at every call. Of a model whose networks are told the class of each image, `label`
    says it: one for all, or one for each image or z. All methods raise ConfigError for images of another size,
    number of channels, type or range.

    Args:
        model: the trained model.
        data: the data module it was trained with, for how bytes become x.
    """

    def __init__(self, model: LatentModel, data: ImageDataModule):
        self.model, self.data = model, data

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.model.image_shape

    @property
    def latent_size(self) -> int:
        """D."""
        return self.model.latent_size

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(D,); or (c, h, w) of latents that are maps, as of `posterior=spatial_gaussian`."""
        grid = self.model.posterior.grid
        return (self.latent_size,) if grid is None else (self.latent_size // prod(grid), *grid)

    def maps(self, z: Float[Tensor, "*N D"]) -> Float[Tensor, "*N c h w"]:
        """z as maps, for what works on these: the second stage of latent diffusion, say. `decode` takes them, too.

        Raises:
            ConfigError: the latents of this model are no maps.
        """
        if self.model.posterior.grid is None:
            raise ConfigError(
                f"maps: z of posterior={type(self.model.posterior).__name__} is a vector;"
                " posterior=spatial_gaussian has maps"
            )
        return as_maps(z, self.model.posterior.grid)

    def to(self, device: str | torch.device) -> "TrainedModel":
        """Return the same model, moved to a device."""
        self.model.to(device)
        return self

    def x(self, images: Images) -> Float[Tensor, "B C H W"]:
        """Return images as the x of the model, on its device."""
        batch = as_tensor(images, self.image_shape, self.data.background)
        if batch.dtype == torch.uint8:
            with torch.random.fork_rng(devices=[]):
                set_draws(0, torch.device("cpu"))
                batch = self.data.to_x(batch.cpu())
        elif self.data.values == "binary" and not ((batch == 0) | (batch == 1)).all():
            raise ConfigError(
                f"images of grey floats: this model was trained with data.binarize={self.data.binarize} and takes"
                " 0 and 1; give uint8 images to have them binarised"
            )
        return batch.to(self.model.device)

    @torch.no_grad()
    def encode(self, images: Images, label: Label = None) -> Distribution:
        """q(z|x), a torch distribution of batch shape (B,) and event shape (D,); `.mean` is the usual code."""
        x = self.x(images)
        return self.model.encode(x, self._told(label, len(x)))

    @torch.no_grad()
    def decode(self, z: Float[Tensor, "..."], label: Label = None) -> Distribution:
        """p(x|z), a torch distribution of batch shape N and event shape (C, H, W); `.mean` is the picture.

        Args:
            z: (*N, D), or where latents are maps (*N, c, h, w).
            label: y of each, for a model that is told it.

        Raises:
            ConfigError: z has another shape.
        """
        z = self._vectors(z)
        return self.model.decode(z.to(self.model.device), self._told(label, z.shape[:-1][-1:].numel()))

    def _vectors(self, z: Float[Tensor, "..."]) -> Float[Tensor, "*N D"]:
        if z.shape[-1:] == (self.latent_size,):
            return z
        if len(self.latent_shape) == 3 and z.shape[-3:] == self.latent_shape:
            return as_vector(z)
        maps = f", or the last three {self.latent_shape}" if len(self.latent_shape) == 3 else ""
        raise ConfigError(
            f"z of shape {tuple(z.shape)}: the last axis must be {self.latent_size}, the latent size{maps}"
        )

    def reconstruct(self, images: Images, label: Label = None) -> Float[Tensor, "B C H W"]:
        """E[x|z] at the posterior mean of each image."""
        return torch.cat([self.model.reconstruct(x, y) for x, y in self._batches(images, label)])

    def elbo(self, images: Images, k: int = 1, label: Label = None) -> Float[Tensor, " B"]:
        """Return the evidence lower bound of each image in nats, from k draws."""
        with torch.no_grad():
            return torch.cat([self.model.elbo(x, k, y) for x, y in self._batches(images, label)])

    def log_marginal(
        self, images: Images, k: int = 5000, proposal: str = "posterior", label: Label = None
    ) -> LogMarginal:
        """Return log p(x), or log p(x|y), of each image in nats by importance sampling: `log_px`, `stderr`,
        `ess`, ….

        Args:
            images: as everywhere.
            k: draws for each.
            proposal: where they come from: `posterior`, or `defensive` for a mixture that misses nothing.
            label: of a model that is told it.

        Raises:
            ConfigError: k < 1, or the posterior has no density (a plain autoencoder).
        """
        if not self.model.posterior.has_density:
            raise ConfigError("log_marginal: the posterior of this model is a point, so that it has no likelihood")
        if self.model.posterior.deterministic:
            raise ConfigError(
                "log_marginal: an image has one code in this model, whose probability with x is `elbo`"
            )
        parts = [
            self.model.log_marginal(x, k, proposal=proposal, label=y) for x, y in self._batches(images, label)
        ]
        tensors = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(LogMarginal)[:-1]}
        noted = {n: torch.cat([part.convergence[n] for part in parts]) for n in parts[0].convergence}
        return LogMarginal(**tensors, convergence=noted)

    def _batches(
        self, images: Images, label: Label
    ) -> Iterator[tuple[Float[Tensor, "B C H W"], Int64[Tensor, " B"] | None]]:
        x = self.x(images)
        told, parts = self._told(label, len(x)), x.split(BATCH)
        yield from zip(parts, [None] * len(parts) if told is None else told.split(BATCH), strict=True)

    def _told(self, label: Label, n: int) -> Int64[Tensor, " N"] | None:
        """Return one label for each of n images or z, where any are given.

        Raises:
            ConfigError: the model is told none, or they are not n, or no labels.
        """
        if label is None:
            return None
        if not (classes := self.model.classes):
            raise ConfigError(f"label={label}: the networks of this model are told no labels")
        asked = [label] * n if isinstance(label, int) else [int(each) for each in label]
        if len(asked) != n:
            raise ConfigError(f"label={asked}: must be one for all, or {n} of them")
        return torch.tensor([check_int("label", y, minimum=0, maximum=classes - 1) for y in asked]).to(
            self.model.device
        )

    def latents(
        self,
        n: int,
        temperature: float = 1.0,
        seed: int | None = None,
        label: Label = None,
    ) -> Float[Tensor, "N D"]:
        """n draws of z from the prior.

        Args:
            n: how many.
            temperature: scales how far each draw is from the centre it is drawn about, see `draws_at`; 1 is the
                prior itself.
            seed: of the draws; None for the default generator.
            label: the class that they are of, with a prior that learned from labels (`prior.condition=label`); of
                several, a part of the draws is of each, one after the other.

        Raises:
            ConfigError: the prior knows no such class.
        """
        check_int("n", n)
        check_number("temperature", temperature, minimum=0)
        with torch.random.fork_rng(devices=[], enabled=seed is not None), torch.no_grad():
            if seed is not None:
                torch.default_generator.set_state(generator("sample", seed).get_state())
            p = self.model.p_z(None if label is None else self._shared_out(label, n, self.model.prior.classes))
            return draws_at(temperature, p, n)

    def _shared_out(self, label: int | Sequence[int], n: int, classes: int) -> Int64[Tensor, " N"]:
        """n labels: of several that are asked for, equal parts, one after the other."""
        if not classes:
            raise ConfigError(
                f"label={label}: the prior of this model knows no classes; prior.condition=label does"
            )
        asked = [label] if isinstance(label, int) else list(label)
        known = torch.tensor([check_int("label", each, minimum=0, maximum=classes - 1) for each in asked])
        return known.repeat_interleave(-(-n // len(known)))[:n].to(self.model.device)

    def sample(
        self,
        n: int,
        temperature: float = 1.0,
        seed: int | None = None,
        show: str = "means",
        label: Label = None,
    ) -> Float[Tensor, "N C H W"]:
        """n new images: E[x|z], or draws x ~ p(x|z), for z from the prior.

        Args:
            n: how many.
            temperature: of the prior's draws, see `latents`.
            seed: of the draws; None for the default generator.
            show: `means`, or `samples` with the likelihood's noise.
            label: the class, or classes, that they are of, see `latents`; of a model whose networks are told it,
                None for all of them.
        """
        if not (classes := self.model.classes):
            return self.images_of(self.latents(n, temperature, seed, label), show)
        told = self._shared_out(range(classes) if label is None else label, check_int("n", n), classes)
        return self.images_of(self.latents(n, temperature, seed), show, told.tolist())

    def images_of(
        self, z: Float[Tensor, "..."], show: str = "means", label: Label = None
    ) -> Float[Tensor, "*N C H W"]:
        """E[x|z] or draws x ~ p(x|z), a batch at a time; z as `decode` takes it."""
        z = self._vectors(z)
        return images_at(self.model, z, show, self._told(label, z.shape[:-1][-1:].numel()))

    def fit_density(self, images: Images, components: int = 10, seed: int = 0) -> None:
        """Put a mixture of Gaussians, fitted to the latents of training images, in the prior's place.

        Better samples for a VAE whose posteriors do not add up to its prior, and the only ones for an
        autoencoder (see `vae.prior.fitted_density.fit_density`).

        Args:
            images: training images, thousands of them.
            components: Gaussians in the mixture.
            seed: of the fit.
        """
        self.model.prior = fit_density(self.model, self.x(images), components, seed=seed)

    def interpolate(
        self, start: Images, end: Images, steps: int = 10, kind: str = "linear"
    ) -> Float[Tensor, "B steps C H W"]:
        """E[x|z] on the way from the posterior mean of one image to that of another.

        Args:
            start: one image or several.
            end: as many.
            steps: images on the way, with both ends.
            kind: `linear`, or `spherical` (White 2016, Sampling generative networks, section 2.1).
        """
        return interpolate(self.model, self.x(start), self.x(end), steps, kind)

    def traverse(
        self, image: Images | None = None, steps: int = 7, span: float = 3.0
    ) -> Float[Tensor, "D steps C H W"]:
        """E[x|z] while one latent after the other goes from −span to span, the others staying as they are.

        Args:
            image: whose posterior mean the others stay at; None for zero.
            steps: images for each latent.
            span: how far, in standard deviations of a standard normal prior.
        """
        size = self.latent_size
        centre = torch.zeros(size, device=self.model.device) if image is None else self.encode(image).mean[0]
        return traverse(self.model, centre, steps, span)


def draws_at(temperature: float, p: Distribution, n: int) -> Float[Tensor, "N D"]:
    """n draws from p, or one from each of a batch, each moved towards its centre to `temperature` of the way.

    The centre is what a draw was drawn about, and with `temperature=0` all that is left.

    The centre is the mean of p; of a mixture, that of the component which the draw is from, as between the
    components there may be nothing; of a flow, the image of the mean of its base distribution, in whose space
    draws are moved (Kingma & Dhariwal 2018, Glow, section 6).
    """
    size = torch.Size(() if p.batch_shape else (n,))
    if temperature == 1:
        return p.sample(size)
    if isinstance(p, OfCodes):
        raise ConfigError(f"temperature={temperature:g}: must be 1 for a prior over codes, which have no centre")
    if isinstance(p, MixtureSameFamily):
        component = p.mixture_distribution.sample(size)
        every = p.component_distribution.sample(size)  # (N, M, D)
        draws = every[torch.arange(n, device=every.device), component]
        return torch.lerp(p.component_distribution.mean[component], draws, temperature)
    if isinstance(p, NormalizingFlow):
        return p.transform.inv(torch.lerp(p.base.mean, p.base.sample(size), temperature))
    return torch.lerp(_mean(p), p.sample(size), temperature)


def _mean(p: Distribution) -> Float[Tensor, " D"]:
    """Return the mean of a distribution, estimated from draws where it has no closed form."""
    try:
        return p.mean
    except NotImplementedError:
        return p.sample(torch.Size((4096,))).mean(0)
