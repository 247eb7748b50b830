"""The terms of z alone: its draws and densities under q(z|x) and p(z), and their KL."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from vae.bound.normal import LogScaleNormal
from vae.checks import ConfigError


@dataclass(frozen=True)
class Draws:
    """K draws of z for each of B images, made or to be made.

    source: the draws z; or the noise ε from which `some` makes them, for those who can hold only some of them.
    log_qz: log q(z|x), where the draws are made and it was asked for. log_qz_path: the same without the gradient
    at fixed z (the score), if asked for. some: None, or some of the noise → those z and, if asked for, log q(z|x).
    """

    source: Float[Tensor, "K B D"]
    log_qz: Float[Tensor, "K B"] | None = None
    log_qz_path: Float[Tensor, "K B"] | None = None
    some: Callable[[Tensor], tuple[Tensor, Tensor | None]] | None = None


def draw(q: Distribution, k: int, density: bool = True, path: bool = False, late: bool = False) -> Draws:
    """k reparameterised draws from q(z|x), for a flow in the one pass that also gives their density.

    Args:
        q: q(z|x).
        k: draws for each image.
        density: whether log q(z|x) is wanted.
        path: whether it is wanted without the score, too.
        late: whether the noise is enough for now, where q can be drawn from like that (it is a diagonal Gaussian,
            and `path` is not wanted). The draws are the same either way.
    """
    if path:
        return _draw_for_path(q, k)
    if late and isinstance(q, Independent) and isinstance(q.base_dist, LogScaleNormal):
        return Draws(q.base_dist.noise(Size((k,))), some=partial(_made, q, density))
    if density and hasattr(q, "rsample_and_log_prob"):
        return Draws(*q.rsample_and_log_prob(Size((k,))))
    z = q.rsample(Size((k,)))
    return Draws(z, q.log_prob(z) if density else None)


def _made(q: Independent, density: bool, noise: Float[Tensor, "K B D"]) -> tuple[Tensor, Tensor | None]:
    """z of the noise, and its log q(z|x)."""
    z = q.base_dist.at(noise)
    return z, q.log_prob(z) if density else None


def _draw_for_path(q: Distribution, k: int) -> Draws:
    """The score is taken off log q by subtracting log q at z held constant, whose only gradient it is.

    This needs nothing of q but its density.
    """
    z = q.rsample(Size((k,)))
    log_qz, log_q_of_constant = q.log_prob(z), q.log_prob(z.detach())
    return Draws(z, log_qz, log_qz - log_q_of_constant + log_q_of_constant.detach())


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


def latent_kl(q: Distribution, p: Distribution, z: Float[Tensor, "K B D"], analytic: bool) -> Float[Tensor, "B D"]:
    """KL(q(z_d|x)‖p(z_d)) of each latent, in closed form or as the mean over the draws.

    Raises:
        ConfigError: the latents are not independent in both.
    """
    if not (isinstance(q, Independent) and isinstance(p, Independent)):
        raise ConfigError(
            "objective.free_bits: needs latents that are independent in both posterior and prior"
            " (posterior=diagonal_gaussian prior=standard_normal)"
        )
    if analytic:
        return kl_divergence(q.base_dist, p.base_dist)
    return (q.base_dist.log_prob(z) - p.base_dist.log_prob(z)).mean(0)
