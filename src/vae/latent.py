"""The terms of z alone: its draws and densities under q(z|x) and p(z), and their KL."""

from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, kl_divergence

from vae.checks import ConfigError


def draw(q: Distribution, k: int) -> tuple[Float[Tensor, "K B D"], Float[Tensor, "K B"]]:
    """k reparameterised draws z and their log q(z|x), for a flow in the one pass that makes them."""
    if hasattr(q, "rsample_and_log_prob"):
        return q.rsample_and_log_prob(Size((k,)))
    z = q.rsample(Size((k,)))
    return z, q.log_prob(z)


def draw_for_path(
    q: Distribution, k: int
) -> tuple[Float[Tensor, "K B D"], Float[Tensor, "K B"], Float[Tensor, "K B"]]:
    """k reparameterised draws z, their log q(z|x), and the same without the gradient at fixed z (the score).

    The score is taken off by subtracting log q at z held constant, whose only gradient it is: this needs
    nothing of q but its density.
    """
    z = q.rsample(Size((k,)))
    log_qz, log_q_of_constant = q.log_prob(z), q.log_prob(z.detach())
    return z, log_qz, log_qz - log_q_of_constant + log_q_of_constant.detach()


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
