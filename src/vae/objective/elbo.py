"""`objective=elbo`: the evidence lower bound, averaged over k draws, with its KL term weighted by β."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from vae.checks import ConfigError, check_choice, check_int
from vae.objective.objective import Objective
from vae.objective.schedule import Constant
from vae.objective.terms import Terms


class ELBO(Objective):
    """loss = mean over images of −(1/k) Σ_k log p(x|z_k) + β KL(q(z|x)‖p(z)).

    Kingma & Welling 2014, equation 7; β ≠ 1 is Higgins et al. 2017, equation 4.

    Args:
        k: draws of z for each image.
        kl: `analytic` (the closed form) or `monte_carlo` (the mean of log q(z_k|x) − log p(z_k)).
        beta: β ≥ 0, or a schedule: a function of the optimiser step.
    """

    def __init__(self, k: int = 1, kl: str = "analytic", beta: float | Callable[[int], float] = 1.0):
        super().__init__()
        self.k = check_int("objective.k", k)
        self.kl = check_choice("objective.kl", kl, ("analytic", "monte_carlo"))
        self.kl_needed = "required" if self.kl == "analytic" else "none"
        self.beta = beta if callable(beta) else Constant(beta)

    def forward(self, terms: Terms, step: int) -> Float[Tensor, ""]:
        """The loss in nats per image at optimiser step `step`.

        Raises:
            ConfigError: the KL was to be analytic, and `terms` holds none.
        """
        if self.kl == "analytic" and terms.kl is None:
            raise ConfigError("objective.kl=analytic: the terms hold no closed-form KL; use monte_carlo")
        rate = terms.sampled_rate if self.kl == "monte_carlo" else terms.rate
        return (terms.distortion + self.beta(step) * rate).mean()
