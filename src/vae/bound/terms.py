"""What one forward pass yields: all that the ELBO, the IWAE bound and the NLL are made of."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from vae.bound.codes import OneHot
from vae.checks import ConfigError


class _Scalable(torch.autograd.Function):
    """z, and zeros whose gradients say by what to multiply that of z.

    What is multiplied is no gradient of a function, so that there are no second derivatives. They would come back
    here without a `scale`, and raise.
    """

    @staticmethod
    def forward(z: Tensor) -> tuple[Tensor, Tensor]:
        return z.clone(), z.new_zeros(2, *z.shape[:-1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, to_z: Tensor | None, to_scale: Tensor | None) -> Tensor:
        if to_z is None or to_scale is None:
            raise RuntimeError("objective.gradient=dreg: the loss has a gradient, but no second derivatives")
        factor, one = to_scale
        return to_z * (factor / torch.where(one == 0, 1, one)).unsqueeze(-1)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int], z: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        return _Scalable.apply(z.movedim(in_dims[0], 0)), (0, 1)


def scalable(z: Float[Tensor, "K B D"]) -> tuple[Float[Tensor, "K B D"], Float[Tensor, "2 K B"]]:
    """Draws whose gradients may be multiplied, each by a factor that is known only when they have been decoded.

    Returns:
        z itself, and a `scale` of zeros. Where Σ_kb (f_kb scale[0, k, b] + scale[1, k, b]) is added to a loss,
        which leaves it as it is, the gradient that comes to z_kb is passed on times f_kb.
    """
    return _Scalable.apply(z)


@runtime_checkable
class LatentVariableModel(Protocol):
    """p(x, z) = p(x|z) p(z), and how z is drawn from q(z|x): what the terms of a bound are worked out from."""

    @property
    def params_per_draw(self) -> int:
        """Decoder outputs for each z."""

    def p_z(self, label: Tensor | None = None) -> Distribution:
        """p(z)."""

    def decode(self, z: Float[Tensor, "*N D"], label: Tensor | None = None) -> Distribution:
        """p(x|z), or p(x|z, y)."""

    def noise(self, k: int, images: int) -> Float[Tensor, "K B E"]:
        """ε, of k draws for each image."""

    def draw(self, q: Distribution, noise: Float[Tensor, "K B E"]) -> Float[Tensor, "K B D"]:
        """z = g(ε, x)."""


@dataclass(frozen=True)
class Terms:
    """K draws z ~ q(z|x) of each of B images, and their log-densities in nats, summed over pixels or latents.

    Densities of z are worked out when they are first asked for: an objective pays for what it uses.

    Args:
        log_px_z: log p(x|z).
        z: the draws; None where only what is `known` may be asked for.
        q: q(z|x), of batch shape (B,).
        p: p(z).
        scale: what `z` was given by `scalable`, where an objective asked for it (`Objective.scales_paths`).
        known: what has been worked out already, by the name of its property.
        label: y of each image, where the model is told it or the objective asked for it (`Objective.uses_labels`).
    """

    log_px_z: Float[Tensor, "K B"]
    z: Float[Tensor, "K B D"] | None
    q: Distribution
    p: Distribution
    scale: Float[Tensor, "2 K B"] | None = None
    known: dict[str, Tensor] = field(default_factory=dict, repr=False, compare=False)
    label: Int64[Tensor, " B"] | None = None

    def _once(self, name: str, work_out: Callable[[], Tensor]) -> Tensor:
        # functools.cached_property has a lock in Python 3.11, which torch.compile cannot enter.
        if name not in self.known:
            self.known[name] = work_out()
        return self.known[name]

    def expectation(self, values: Float[Tensor, "K B"]) -> Float[Tensor, " B"]:
        """E_q of what each draw has: the mean over draws; where they are every z that there is, the exact sum."""
        if isinstance(self.q, OneHot) and self.q.enumerated:
            return (self.q.weights * values).sum(0)
        return values.mean(0)

    @property
    def draws(self) -> Float[Tensor, "K B D"]:
        """z.

        Raises:
            ConfigError: they were decoded in chunks, and the objective does not say that it uses them.
        """
        if self.z is None:
            raise ConfigError(
                "objective.chunk: draws that are decoded in chunks are kept only for an objective that says"
                " `uses_draws = True` (src/vae/objective/objective.py); use objective.chunk=null"
            )
        return self.z

    @property
    def log_pz(self) -> Float[Tensor, "K B"]:
        """log p(z)."""
        return self._once("log_pz", lambda: self.p.log_prob(self.draws))

    @property
    def log_qz(self) -> Float[Tensor, "K B"]:
        """log q(z|x)."""
        return self._once("log_qz", lambda: self.q.log_prob(self.draws))

    @property
    def log_qz_path(self) -> Float[Tensor, "K B"]:
        """log q(z|x) with gradients to the posterior's parameters only by way of z.

        The gradient at fixed z, the score, is taken off by subtracting log q at z held constant.
        """
        of_constant = self.q.log_prob(self.draws.detach())
        return self.log_qz - of_constant + of_constant.detach()

    @property
    def log_w(self) -> Float[Tensor, "K B"]:
        """The log importance weights log p(x, z) − log q(z|x) (Burda et al. 2016, equation 8).

        Where the draws are every z that there is, each of them once, they come from 1/K in place of q(z|x): then
        the mean weight is p(x) itself.
        """
        if isinstance(self.q, OneHot) and self.q.enumerated:
            return self.log_px_z + self.log_pz + math.log(len(self.log_px_z))
        return self.log_px_z - (self.log_qz - self.log_pz)

    @property
    def distortion(self) -> Float[Tensor, " B"]:
        """−E_q[log p(x|z)], the mean over the draws."""
        return self._once("distortion", lambda: -self.expectation(self.log_px_z))

    @property
    def kl(self) -> Float[Tensor, " B"]:
        """KL(q(z|x)‖p(z)) in closed form.

        Raises:
            ConfigError: there is none for this pair.
        """
        return self._once("kl", lambda: analytic_kl(self.q, self.p))

    @property
    def sampled_rate(self) -> Float[Tensor, " B"]:
        """The Monte Carlo estimate of KL(q‖p), the mean of log q(z|x) − log p(z) over the draws."""
        return self.expectation(self.log_qz - self.log_pz)

    @property
    def rate(self) -> Float[Tensor, " B"]:
        """KL(q‖p) for reports: in closed form where there is one, else the Monte Carlo estimate."""
        try:
            return self.kl
        except ConfigError:
            return self.sampled_rate

    def latent_kl(self, analytic: bool) -> Float[Tensor, "B D"]:
        """KL(q(z_d|x)‖p(z_d)) of each latent, in closed form or as the mean over the draws.

        Raises:
            ConfigError: the latents are not independent in both.
        """
        if not (isinstance(self.q, Independent) and isinstance(self.p, Independent)):
            raise ConfigError(
                "objective.free_bits: needs latents that are independent in both posterior and prior"
                " (posterior=diagonal_gaussian prior=standard_normal)"
            )
        q, p = self.q.base_dist, self.p.base_dist
        return kl_divergence(q, p) if analytic else (q.log_prob(self.draws) - p.log_prob(self.draws)).mean(0)

    @property
    def elbo(self) -> Float[Tensor, " B"]:
        """−(distortion + rate), the bound at β = 1 (Kingma & Welling 2014, equation 3)."""
        return -(self.distortion + self.rate)

    @property
    def iwae_bound(self) -> Float[Tensor, " B"]:
        """log (1/K) Σ_k w_k, the K-sample bound (Burda et al. 2016, equation 8)."""
        return self.log_w.logsumexp(0) - math.log(len(self.log_px_z))


def analytic_kl(q: Distribution, p: Distribution) -> Float[Tensor, " B"]:
    """KL(q‖p) in closed form; for diagonal Gaussians ½ Σ_d (μ² + σ² − 1 − ln σ²) against N(0, I).

    Raises:
        ConfigError: there is none for this pair.
    """
    try:
        return kl_divergence(q, p)
    except NotImplementedError as error:
        raise ConfigError(
            "objective.kl=analytic: this posterior and prior have no closed-form KL; use objective.kl=monte_carlo"
        ) from error


def has_analytic_kl(q: Distribution, p: Distribution) -> bool:
    """Return whether KL(q‖p) has a closed form."""
    try:
        analytic_kl(q, p)
    except ConfigError:
        return False
    return True
