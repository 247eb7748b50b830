"""`objective=elbo`: the evidence lower bound, averaged over k draws, with its KL term weighted by β."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from vae.bound.ranks import mean_over_ranks
from vae.bound.terms import Terms, has_analytic_kl
from vae.checks import check_choice, check_int, check_number
from vae.objective.objective import Objective
from vae.objective.target_rate import TargetRate


class ELBO(Objective):
    """loss = mean over images of −(1/k) Σ_k log p(x|z_k) + β KL(q(z|x)‖p(z)).

    Kingma & Welling 2014, equation 7; β ≠ 1 is Higgins et al. 2017, equation 4. With free bits λ the KL is
    Σ_d max(λ, mean over the batch's images of KL_d), so that no latent gains by falling below λ (Kingma et al.
    2016, Improved variational inference with inverse autoregressive flow, equation 15).

    Args:
        k: draws of z for each image.
        kl: `analytic` (the closed form), `monte_carlo` (the mean of log q(z_k|x) − log p(z_k)), or `auto`:
            `settle` takes the closed form where there is one.
        beta: β ≥ 0, or a schedule: a function of the optimiser step, or a `TargetRate`.
        free_bits: λ ≥ 0, in nats for each latent.
        chunk: draws decoded at a time; None for all at once.

    Raises:
        ConfigError: in `forward`, if the KL is to be analytic and has no closed form.
    """

    def __init__(
        self,
        k: int = 1,
        kl: str = "analytic",
        beta: float | Callable[[int | Tensor], float | Tensor] = 1.0,
        free_bits: float = 0.0,
        chunk: int | None = None,
    ):
        super().__init__(check_int("objective.k", k), chunk)
        self.kl = check_choice("objective.kl", kl, ("auto", "analytic", "monte_carlo"))
        self.beta = beta if callable(beta) else check_number("objective.beta", beta, minimum=0)
        self.free_bits = check_number("objective.free_bits", free_bits, minimum=0)
        self.uses_log_densities = kl == "monte_carlo"
        self.uses_draws = self.uses_log_densities and free_bits > 0
        self.counts_latents, self.adapts = free_bits > 0, isinstance(beta, TargetRate)

    def settle(self, q: Distribution, p: Distribution) -> None:
        """Choose the form of the KL term, where `auto` has left it open."""
        if self.kl == "auto":
            self.kl = "analytic" if has_analytic_kl(q, p) else "monte_carlo"
            self.uses_log_densities = self.kl == "monte_carlo"
            self.uses_draws = self.uses_log_densities and self.counts_latents

    def forward(self, terms: Terms, step: int | Tensor) -> Float[Tensor, ""]:
        """Return the loss in nats per image at optimiser step `step`."""
        beta = self.beta(step) if callable(self.beta) else self.beta
        if self.counts_latents:
            rates = terms.latent_kl(self.kl != "monte_carlo").mean(0)
            rates = mean_over_ranks(rates) if self.training else rates  # in evaluation each rank has batches alone
            return terms.distortion.mean() + beta * rates.clamp(min=self.free_bits).sum()
        rate = self.rate(terms)
        weighted = rate if isinstance(beta, float) and beta == 1 else beta * rate
        return (terms.distortion + weighted).mean()

    def rate(self, terms: Terms) -> Float[Tensor, " B"]:
        """KL(q(z|x)‖p(z)) in the form that was asked for."""
        return terms.sampled_rate if self.kl == "monte_carlo" else terms.kl

    def after_step(self, rate: Float[Tensor, " B"]) -> None:
        """Let a `TargetRate` adapt β to the rate of the step."""
        assert isinstance(self.beta, TargetRate)
        self.beta.observe(rate.mean())

    @torch.no_grad()
    def numbers(self, step: int) -> dict[str, float]:
        """β, where it is not constant."""
        return {"beta": float(self.beta(step))} if callable(self.beta) else {}
