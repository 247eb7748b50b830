"""LatentModel: the only place where network, posterior, prior and likelihood meet."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from vae.checks import ConfigError, check_int
from vae.objective.objective import KL
from vae.objective.terms import Terms

Component = Callable[..., Any]


class LogMarginal(NamedTuple):
    """log p(x) in nats, and the effective sample size (Σw)² / Σw² of its estimate, both in float64."""

    log_px: Float[Tensor, " B"]
    ess: Float[Tensor, " B"]


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
        self.latent_size = check_int("latent_size", latent_size)
        self.likelihood = likelihood(image_shape)
        self.encoder = encoder(image_shape)
        self.posterior = posterior(self.encoder.features, latent_size)
        self.decoder = decoder(latent_size, self.likelihood.param_shape)
        self.prior = prior(latent_size, image_shape)

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def start_from_mean(self, mean: Float[Tensor, "C H W"]) -> None:
        """Start the decoder at the mean training image."""
        self.decoder.set_output_bias(self.likelihood.params_from_mean(mean))

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

    def terms(self, x: Float[Tensor, "B C H W"], q: Distribution, k: int, kl: KL) -> Terms:
        """k draws of z from q, and their log-densities.

        Args:
            x: images.
            q: q(z|x) of each, as `encode` gives it (for a denoising model, of the corrupted images).
            k: draws of z for each.
            kl: whether `Terms.kl` is `required`, wanted `if_any` closed form exists, or to be left out (`none`).
                With a required KL the densities of z are left out, as no training objective uses both.

        Raises:
            ConfigError: the KL is required and there is no closed form for this pair.
        """
        p = self.p_z()
        z = q.rsample(torch.Size((k,)))  # (K, B, D)
        return Terms(
            log_px_z=self.decode(z).log_prob(x),
            log_pz=None if kl == "required" else p.log_prob(z),
            log_qz=None if kl == "required" else q.log_prob(z),
            kl=None if kl == "none" else analytic_kl(q, p, required=kl == "required"),
        )

    def elbo(self, x: Float[Tensor, "B C H W"], k: int = 1) -> Float[Tensor, " B"]:
        """The evidence lower bound of each image in nats, from k draws, its KL analytic where it can be."""
        return self.terms(x, self.encode(x), check_int("k", k), kl="if_any").elbo

    @torch.no_grad()
    def log_marginal(self, x: Float[Tensor, "B C H W"], k: int = 5000, chunk: int = 100) -> LogMarginal:
        """log p(x) of each image in nats, estimated by importance sampling with exactly k draws.

        log (1/k) Σ_k w_k with w_k = p(x|z_k) p(z_k) / q(z_k|x) (Burda et al. 2016, section 5): `chunk` draws
        at a time, encoding once, accumulated in float64. A lower bound in expectation, tight as k grows.
        """
        check_int("k", k)
        q, p = self.encode(x), self.p_z()
        log_sum = torch.full(x.shape[:1], -math.inf, dtype=torch.float64, device=x.device)
        log_sum_squares = log_sum.clone()
        for start in range(0, k, chunk):
            z = q.rsample(torch.Size((min(chunk, k - start),)))
            log_w = (self.decode(z).log_prob(x) + p.log_prob(z) - q.log_prob(z)).double()
            log_sum = torch.logaddexp(log_sum, log_w.logsumexp(0))
            log_sum_squares = torch.logaddexp(log_sum_squares, (2 * log_w).logsumexp(0))
        return LogMarginal(log_sum - math.log(k), (2 * log_sum - log_sum_squares).exp())

    @torch.no_grad()
    def sample(self, n: int, temperature: float = 1.0) -> Float[Tensor, "N C H W"]:
        """The means E[x|z] for n draws of z from the prior, each scaled by `temperature`."""
        z = self.p_z().sample(torch.Size((check_int("n", n),))) * temperature
        return self.decode(z).mean

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        """E[x|z] at z = the posterior mean of each image."""
        return self.decode(self.encode(x).mean).mean


def analytic_kl(q: Distribution, p: Distribution, required: bool) -> Float[Tensor, " B"] | None:
    """KL(q‖p) in closed form; for diagonal Gaussians ½ Σ_d (μ² + σ² − 1 − ln σ²) against N(0, I).

    None where there is no closed form for this pair.

    Raises:
        ConfigError: there is none and it is required.
    """
    try:
        return kl_divergence(q, p)
    except NotImplementedError as error:
        if not required:
            return None
        raise ConfigError(
            "objective.kl=analytic: this posterior and prior have no closed-form KL; use objective.kl=monte_carlo"
        ) from error
