"""LatentModel: the only place where network, posterior, prior and likelihood meet."""

from collections.abc import Callable, Iterable
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from vae.bound.allocation import keep_freed_memory
from vae.bound.chunk import in_chunks
from vae.bound.importance import (
    LogMarginal,
    RunningWeights,
    auto_chunk,
    images_at_a_time,
    stages,
)
from vae.bound.latent import analytic_kl, draw, latent_kl
from vae.bound.precision import no_autocast
from vae.bound.terms import Terms
from vae.checks import ConfigError, check_int
from vae.objective.objective import KL, LatentKL

Component = Callable[..., Any]


class LatentModel(nn.Module):
    """p(x, z) = p(x|z) p(z) with the approximate posterior q(z|x).

    The components come as constructors that still lack the sizes, which are worked out here, so that
    nobody types a width twice.

    Args:
        image_shape: (C, H, W).
        latent_size: D.
        encoder: (image_shape) → module x → features, with the attribute `features`.
        decoder: (latent_size, param_shape) → module z → likelihood parameters.
        posterior: (features, latent_size) → module features → q(z|x).
        prior: (latent_size, image_shape) → module encode → p(z).
        likelihood: (image_shape) → module parameters → p(x|z), with the attribute `param_shape`.
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        latent_size: int,
        encoder: Component,
        decoder: Component,
        posterior: Component,
        prior: Component,
        likelihood: Component,
    ):
        super().__init__()
        self.image_shape = image_shape
        self.latent_size = check_int("latent_size", latent_size, maximum=2**20)
        self.likelihood = likelihood(image_shape)
        self.encoder = encoder(image_shape)
        self.posterior = posterior(self.encoder.features, latent_size)
        self.decoder = decoder(latent_size, self.likelihood.param_shape)
        self.prior = prior(latent_size, image_shape)
        self.recompute_decoder = False
        self.starts_from_mean = True

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def start_from_mean(self, mean: Float[Tensor, "C H W"]) -> None:
        """Start the decoder at the mean training image."""
        self._check_values(mean)
        self.decoder.set_output_bias(self.likelihood.params_from_mean(mean))

    @property
    def start_images(self) -> int:
        """Training images that `start_from_images` must be given; 0 where nothing starts from images."""
        return getattr(self.prior, "images_needed", 0)

    def start_from_images(self, images: Float[Tensor, "N C H W"]) -> None:
        """Start the prior at training images."""
        self.prior.start_from_images(images)

    @property
    def needs_calibration(self) -> bool:
        """Whether the likelihood has a constant that is worked out from training images for evaluation."""
        return hasattr(self.likelihood, "calibrate")

    @torch.no_grad()
    def calibrate(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Give the likelihood the mean squared error of training images, a draw of z for each.

        Args:
            batches: pairs of images (B, C, H, W) and of what the encoder sees of them.
        """
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        count = 0
        for x, seen in batches:
            z = self.encode(seen).rsample()
            total += (self.decode(z).mean - x).square().sum(dtype=torch.float64)
            count += x.numel()
        self.likelihood.calibrate((total / count).float())

    def encode(self, x: Float[Tensor, "B C H W"]) -> Distribution:
        """q(z|x), of batch shape (B,) and event shape (D,)."""
        return self.posterior(self.encoder(x))

    def decode(self, z: Float[Tensor, "*N D"]) -> Distribution:
        """p(x|z), of batch shape N and event shape (C, H, W)."""
        params = self.decoder(z.reshape(-1, self.latent_size))
        return self.likelihood(params.reshape(*z.shape[:-1], *params.shape[1:]))

    def p_z(self) -> Distribution:
        """p(z), of event shape (D,)."""
        return self.prior(self.encode)

    def terms(
        self,
        x: Float[Tensor, "B C H W"],
        q: Distribution,
        k: int,
        kl: KL,
        latent: LatentKL = "none",
        path: bool = False,
        chunk: int | None = None,
    ) -> Terms:
        """k draws of z from q, and their log-densities.

        Args:
            x: images.
            q: q(z|x) of each, as `encode` gives it (for a denoising model, of the corrupted images).
            k: draws of z for each.
            kl: whether `Terms.kl` is `required`, wanted `if_any` closed form exists, or to be left out (`none`).
                With a required KL the densities of z are left out, as no training objective uses both.
            latent: whether `Terms.latent_kl` is to be there, `analytic` or `monte_carlo`, or left out (`none`).
            path: whether `Terms.z` and `Terms.log_qz_path` are to be there.
            chunk: draws that are decoded at a time; None for all at once.

        Raises:
            ConfigError: a KL is wanted in a form that does not exist for this pair.
        """
        p, density = self.p_z(), kl != "required"
        late = chunk is not None and chunk < k and latent != "monte_carlo"
        with no_autocast(x.device):
            draws = draw(q, k, density, path, late)
            closed_kl = None if kl == "none" else analytic_kl(q, p, required=kl == "required")
            kl_of_each = None if latent == "none" else latent_kl(q, p, draws.source, latent == "analytic")

        def log_densities(source: Tensor) -> tuple[Tensor | None, ...]:
            with no_autocast(x.device):
                z, log_qz = (source, None) if draws.some is None else draws.some(source)
            return *self._log_joint(x, p if density else None, z), log_qz

        log_px_z, log_pz, log_qz = in_chunks(log_densities, draws.source, chunk, self.recompute_decoder)
        assert log_px_z is not None
        log_qz = draws.log_qz if draws.some is None else log_qz
        z = draws.source if path else None
        return Terms(log_px_z, log_pz, log_qz, closed_kl, kl_of_each, z, draws.log_qz_path)

    def _log_joint(
        self, x: Float[Tensor, "B C H W"], p: Distribution | None, z: Float[Tensor, "K B D"]
    ) -> tuple[Float[Tensor, "K B"], Float[Tensor, "K B"] | None]:
        """log p(x|z) and, given p, log p(z)."""
        log_px_z = self.decode(z).log_prob(x)
        with no_autocast(x.device):
            return log_px_z, None if p is None else p.log_prob(z)

    def elbo(self, x: Float[Tensor, "B C H W"], k: int = 1) -> Float[Tensor, " B"]:
        """The evidence lower bound of each image in nats, from k draws, its KL analytic where it can be."""
        self._check_values(x)
        return self.terms(x, self.encode(x), check_int("k", k), kl="if_any").elbo

    def _check_values(self, x: Float[Tensor, "*B C H W"]) -> None:
        """Refuse values outside [0, 1] where the likelihood gives them no probability."""
        if self.likelihood.support != "real" and (x.amin() < 0 or x.amax() > 1):
            raise ConfigError(
                f"x: {type(self.likelihood).__name__} has no probability for values outside [0, 1],"
                f" and these are in [{x.amin():.3g}, {x.amax():.3g}]"
            )

    @torch.no_grad()
    def log_marginal(
        self,
        x: Float[Tensor, "B C H W"],
        k: int = 5000,
        chunk: int | None = None,
        q: Distribution | None = None,
    ) -> LogMarginal:
        """log p(x) of each image in nats, estimated by importance sampling with exactly k draws.

        log (1/k) Σ_k w_k with w_k = p(x|z_k) p(z_k) / q(z_k|x) (Burda et al. 2016, section 5): `chunk` draws
        at a time, of as many images as then fit in little memory, encoding once, accumulated in float64. A
        lower bound in expectation, tight as k grows.

        Args:
            x: images.
            k: draws for each.
            chunk: draws that are taken at a time; None for what fits in little memory.
            q: where the draws come from; None for q(z|x), and otherwise any q (for a denoising model that
                of the corrupted images).
        """
        check_int("k", k)
        self._check_values(x)
        q, p = self.encode(x) if q is None else q, self.p_z()
        keep_freed_memory()
        if chunk is None:
            chunk = auto_chunk(len(x), self.latent_size, prod(self.likelihood.param_shape), x.device)
        weights = RunningWeights(len(x), x.device)
        for stage in stages(k):
            while weights.k < stage:
                weights.add(self._log_weights(x, q, p, min(chunk, stage - weights.k)))
            weights.note()
        return weights.result()

    def _log_weights(
        self, x: Float[Tensor, "B C H W"], q: Distribution, p: Distribution, k: int
    ) -> Float[Tensor, "K B"]:
        """log w of k further draws of each image, decoded for some of the images at a time."""
        with no_autocast(x.device):
            draws = draw(q, k)
        assert draws.log_qz is not None
        images = images_at_a_time(k, prod(self.likelihood.param_shape), x.device)
        log_joint = []
        for some_x, some_z in zip(x.split(images), draws.source.split(images, dim=1), strict=True):
            log_px_z, log_pz = self._log_joint(some_x, p, some_z)
            assert log_pz is not None
            log_joint.append(log_px_z + log_pz)
        return torch.cat(log_joint, 1) - draws.log_qz

    @torch.no_grad()
    def sample(self, n: int) -> Float[Tensor, "N C H W"]:
        """The means E[x|z] for n draws of z from the prior."""
        return self.decode(self.p_z().sample(torch.Size((check_int("n", n),)))).mean

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """E[x|z] at z = the posterior mean of each image."""
        return self.decode(self.encode(x).mean).mean
