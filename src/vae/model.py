"""LatentModel: the only place where network, posterior, prior and likelihood meet."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributions import Distribution

from vae.bound import importance
from vae.bound.codes import OfCodes
from vae.bound.terms import Terms, scalable
from vae.checks import ConfigError, check_int
from vae.network.network import Decoder, Encoder
from vae.posterior.posterior import Posterior
from vae.prior.prior import Prior

Component = Callable[..., Any]
Labels = Int64[Tensor, " B"] | None
"""y of each image, for a model whose networks are told it."""


class LatentModel(nn.Module):
    """p(x, z) = p(x|z) p(z) with the approximate posterior q(z|x).

    Where encoder or decoder are told the label y of each image (`classes`), all is given y: p(x, z|y) = p(x|z, y)
    p(z) with q(z|x, y), and bounds are of log p(x|y) (Sohn et al. 2015, Learning structured output representation
    using deep conditional generative models, equation 4; here x is what is generated, and z does not depend on y).

    The components come as constructors that still lack the sizes, which are worked out here, so that
    nobody types a width twice.

    Args:
        image_shape: (C, H, W).
        latent_size: D.
        encoder: (image_shape) → `vae.network.network.Encoder`.
        decoder: (latent_size, param_shape) → `vae.network.network.Decoder`.
        posterior: (features, latent_size) → `vae.posterior.posterior.Posterior`.
        prior: (latent_size, image_shape) → `vae.prior.prior.Prior`.
        likelihood: (image_shape) → `vae.likelihood.likelihood.Likelihood`.
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
        check_int("latent_size", latent_size, maximum=2**20)
        self.likelihood = likelihood(image_shape)
        self.encoder = encoder(image_shape)
        self.posterior = posterior(self.encoder.features, latent_size)
        self.latent_size: int = self.posterior.latent_size
        self.decoder = decoder(self.latent_size, self.likelihood.param_shape)
        self.prior = prior(self.latent_size, image_shape)
        self.classes = min(filter(None, (self.encoder.classes, self.decoder.classes)), default=0)
        if self.prior.over_codes != (self.posterior.codes is not None):
            raise ConfigError(_of_two_kinds(self.posterior, self.prior))
        if self.posterior.codes is not None:
            self.prior.take_codes(self.posterior.codes)

    def encode(self, x: Float[Tensor, "B C H W"], label: Labels = None) -> Distribution:
        """q(z|x), or q(z|x, y), of batch shape (B,) and event shape (D,)."""
        if self.posterior.by_bayes:
            with torch.no_grad():
                return self.posterior(self.log_joint(x))
        return self.posterior(self.features(x, label))

    def features(self, x: Float[Tensor, "B C H W"], label: Labels) -> Float[Tensor, "B F"]:
        """Return what the posterior is given."""
        return self.encoder(x, *_told(self.encoder, label))

    def noise(self, k: int, images: int) -> Float[Tensor, "K B E"]:
        """ε of k draws for each image, from the default generator."""
        return self.posterior.noise(k, images)

    def draw(self, q: Distribution, noise: Float[Tensor, "K B E"]) -> Float[Tensor, "K B D"]:
        """z = g(ε, x), distributed as q(z|x) (Kingma & Welling 2014, equation 4)."""
        return self.posterior.draw(q, noise)

    def decode(self, z: Float[Tensor, "*N D"], label: Labels = None) -> Distribution:
        """p(x|z), or p(x|z, y) with y along the last axis of N; of batch shape N and event shape (C, H, W)."""
        every = [y.expand(*z.shape[:-2], -1).reshape(-1) for y in _told(self.decoder, label)]
        params = self.decoder(z.reshape(-1, self.latent_size), *every)
        return self.likelihood(params.reshape(*z.shape[:-1], *params.shape[1:]))

    def p_z(self, label: Labels = None) -> Distribution:
        """p(z), of event shape (D,).

        With labels y, from which a prior that has `classes` is learned, it is p(z, y), of batch shape (B,): its
        draws are of p(z|y), and a bound made with it is one of log p(x, y). Other priors are not told them.
        """
        joint = label is not None and self.prior.classes > 0
        p = self.prior.of_labels(label) if joint else self.prior(self.encode)
        return OfCodes(p, self.posterior, self.latent_size) if self.prior.over_codes else p

    def log_joint(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B K"]:
        """Return log p(x, z) of each image and every z that there is, for a posterior that is `enumerated`."""
        z = self._every_z()
        return (self._log_px_every(x, z) + self.p_z().log_prob(z)[:, None]).T

    def _every_z(self) -> Float[Tensor, "K D"]:
        assert self.posterior.codes is not None
        return self.posterior.vectors(torch.arange(self.posterior.codes.classes, device=self.device)[:, None])

    def _log_px_every(self, x: Float[Tensor, "B C H W"], z: Float[Tensor, "K D"]) -> Float[Tensor, "K B"]:
        """Return log p(x|z) of each image and z, each z decoded once."""
        params = self.decoder(z)[:, None].expand(-1, len(x), -1, -1, -1)
        return self.likelihood(params).log_prob(x)

    def terms(
        self,
        x: Float[Tensor, "B C H W"],
        q: Distribution,
        noise: Float[Tensor, "K B E"],
        scales_paths: bool = False,
        label: Labels = None,
    ) -> Terms:
        """Return one draw of z for each ε, and its log-densities: all that a bound is made of.

        ELBO = E_q[log p(x|z)] − KL(q(z|x)‖p(z)) = E_q[log p(x|z) + log p(z) − log q(z|x)] (Kingma & Welling 2014,
        equations 3 and 2).

        Args:
            x: images.
            q: q(z|x) of each, as `encode` gives it (for a denoising model, of the corrupted images).
            noise: ε of K draws, as `noise` gives it.
            scales_paths: whether the objective multiplies the gradients of each z, see `vae.bound.terms.scalable`.
            label: y of each image, for the parts that are told it; of the prior see `p_z`.
        """
        z, scale = self.draw(q, noise), None  # (K, B, D)
        if self.posterior.enumerated:  # the same z for all images
            return Terms(self._log_px_every(x, z[:, 0]), z, q, self.p_z(label), label=label)
        if scales_paths:
            z, scale = scalable(z)
        log_px_z = self.decode(z, label).log_prob(x)  # (K, B)
        return Terms(log_px_z, z, q, self.p_z(label), scale, label=label)

    def elbo(self, x: Float[Tensor, "B C H W"], k: int = 1, label: Labels = None) -> Float[Tensor, " B"]:
        """Return the evidence lower bound of each image in nats, from k draws, its KL analytic where it can be."""
        self._check_values(x)
        noise = self.noise(check_int("k", k), len(x))
        return self.terms(x, self.encode(x, label), noise, label=label).elbo

    @torch.no_grad()
    def log_marginal(
        self,
        x: Float[Tensor, "B C H W"],
        k: int = 5000,
        chunk: int | None = None,
        q: Distribution | None = None,
        proposal: str = "posterior",
        label: Labels = None,
    ) -> importance.LogMarginal:
        """Return log p(x) of each image in nats, by importance sampling with exactly k draws:
        `vae.bound.importance`.

        For a posterior that is `enumerated` it is the exact sum, whatever k.

        Args:
            x: images.
            k: draws for each.
            chunk: draws that are taken at a time; None for what fits in little memory.
            q: None for q(z|x), and otherwise any q (for a denoising model that of the corrupted images).
            proposal: where the draws come from: q (`posterior`), or a mixture that misses nothing (`defensive`).
            label: y of each image, for a model that is told it: then it is log p(x|y).
        """
        self._check_values(x)
        if self.posterior.enumerated:
            return importance.exact(self.log_joint(x), check_int("k", k))
        q = self.encode(x, label) if q is None else q
        return importance.log_marginal(self, x, q, check_int("k", k), chunk, proposal, label)

    @torch.no_grad()
    def sample(self, n: int, label: Labels = None) -> Float[Tensor, "N C H W"]:
        """Return the means E[x|z], or E[x|z, y], for n draws of z from the prior."""
        return self.picture(self.p_z().sample(torch.Size((check_int("n", n),))), label)

    @torch.no_grad()
    def picture(self, z: Float[Tensor, "*N D"], label: Labels = None) -> Float[Tensor, "*N C H W"]:
        """E[x|z], or a draw from p(x|z) where that is not known; with labels as `decode` takes them."""
        p = self.decode(z, label)
        return p.mean if self.likelihood.has_mean else p.sample()

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "B C H W"], label: Labels = None) -> Float[Tensor, "B C H W"]:
        """E[x|z] at z = the posterior mean of each image."""
        return self.picture(self.encode(x, label).mean, label)

    @property
    def params_per_draw(self) -> int:
        """Decoder outputs for each z."""
        return prod(self.likelihood.param_shape)

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def _check_values(self, x: Float[Tensor, "*B C H W"]) -> None:
        """Refuse values outside [0, 1] where the likelihood gives them no probability."""
        if self.likelihood.support != "real" and (x.amin() < 0 or x.amax() > 1):
            raise ConfigError(
                f"x: {type(self.likelihood).__name__} has no probability for values outside [0, 1],"
                f" and these are in [{x.amin():.3g}, {x.amax():.3g}]"
            )


def _told(network: Encoder | Decoder, label: Labels) -> tuple[Tensor, ...]:
    """Return what a network is called with beside images or z: their labels, if it is told them.

    Raises:
        ConfigError: they are missing.
    """
    if not network.classes:
        return ()
    if label is None:
        raise ConfigError(
            f"label=null: {type(network).__name__} is told the class of each image, from 0 to"
            f" {network.classes - 1}, which is not given here"
        )
    return (label,)


def _of_two_kinds(posterior: Posterior, prior: Prior) -> str:
    """Why a posterior and a prior do not go together of which one is over codes."""
    if prior.over_codes:
        return (
            f"prior={type(prior).__name__} is over codes, and posterior={type(posterior).__name__} gives vectors:"
            " use prior=standard_normal, or a posterior over codes such as posterior=categorical"
        )
    return (
        f"posterior={type(posterior).__name__} gives codes, and prior={type(prior).__name__} is over vectors: use"
        " prior=uniform or prior=categorical"
    )


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Put a module and all its parts into evaluation mode, and afterwards those that trained back to training."""
    in_training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in in_training:
            part.training = True
