"""`objective=elbo`: the evidence lower bound, averaged over k draws, with its KL term weighted by β."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from vae.bound.terms import Terms
from vae.checks import ConfigError, check_choice, check_int, check_number
from vae.objective.objective import Needs, Objective
from vae.objective.schedule import Constant
from vae.objective.target_rate import TargetRate


class ELBO(Objective):
    """loss = mean over images of −(1/k) Σ_k log p(x|z_k) + β KL(q(z|x)‖p(z)).

    Kingma & Welling 2014, equation 7; β ≠ 1 is Higgins et al. 2017, equation 4. With free bits λ the KL is
    Σ_d max(λ, mean over images of KL_d), so that no latent gains by falling below λ (Kingma et al. 2016,
    Improved variational inference with inverse autoregressive flow, equation 15).

    Args:
        k: draws of z for each image.
        kl: `analytic` (the closed form) or `monte_carlo` (the mean of log q(z_k|x) − log p(z_k)).
        beta: β ≥ 0, or a schedule: a function of the optimiser step, or a `TargetRate`.
        free_bits: λ ≥ 0, in nats for each latent.
        chunk: draws decoded at a time; None for all at once.
    """

    def __init__(
        self,
        k: int = 1,
        kl: str = "analytic",
        beta: float | Callable[[int], float | Tensor] = 1.0,
        free_bits: float = 0.0,
        chunk: int | None = None,
    ):
        self.free_bits = check_number("objective.free_bits", free_bits, minimum=0)
        analytic = check_choice("objective.kl", kl, ("analytic", "monte_carlo")) == "analytic"
        needs = Needs(
            kl="required" if analytic else "none",
            latent_kl="none" if free_bits == 0 else "analytic" if analytic else "monte_carlo",
        )
        super().__init__(check_int("objective.k", k), chunk, needs)
        self.kl = kl
        self.beta = beta if callable(beta) else Constant(beta)

    @property
    def is_constant(self) -> bool:
        return isinstance(self.beta, Constant)

    def forward(self, terms: Terms, step: int) -> Float[Tensor, ""]:
        """The loss in nats per image at optimiser step `step`.

        Raises:
            ConfigError: the KL was to be analytic, and `terms` holds none.
        """
        rate = self._rate(terms)
        if self.training and isinstance(self.beta, TargetRate):
            self.beta.observe(rate.mean())
        beta = self.beta(step)
        if terms.latent_kl is not None and self.free_bits:
            return terms.distortion.mean() + beta * terms.latent_kl.mean(0).clamp(min=self.free_bits).sum()
        weighted = rate if isinstance(beta, float) and beta == 1 else beta * rate
        return (terms.distortion + weighted).mean()

    def _rate(self, terms: Terms) -> Float[Tensor, " B"]:
        if self.kl == "monte_carlo":
            return terms.sampled_rate
        if terms.kl is None:
            raise ConfigError("objective.kl=analytic: the terms hold no closed-form KL; use monte_carlo")
        return terms.kl

    @torch.no_grad()
    def numbers(self, step: int) -> dict[str, float]:
        """β, where it is not constant."""
        return {} if isinstance(self.beta, Constant) else {"beta": float(self.beta(step))}
