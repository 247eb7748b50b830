"""`objective=iwae`: the importance-weighted bound, its relatives MIWAE and CIWAE, and three gradients."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from vae.bound.terms import Terms
from vae.checks import check_choice, check_int, check_number
from vae.objective.objective import Objective


class IWAE(Objective):
    """loss = −mean over images of (1 − c) (1/M) Σ_m ln (1/k) Σ_k w_mk + c (1/Mk) Σ_mk ln w_mk.

    The k-sample bound of Burda et al. 2016, equation 8 (M = 1, c = 0); MIWAE averages M of them and CIWAE
    mixes in the ELBO with weight c (Rainforth et al. 2018, Tighter variational bounds are not necessarily
    better, equations 8 and 9). The loss is the bound itself whatever the gradient, which may be

    * `standard`: that of the loss;
    * `stl`: without the score term ∂ln q(z|x)/∂φ at fixed z (Roeder et al. 2017, Sticking the landing). Of
      zero variance where q is the exact posterior; unbiased for the ELBO, but not for k > 1;
    * `dreg`: doubly reparameterised (Tucker et al. 2019, equation 7): the encoder's path through z is
      weighted by the squared normalised weights. Unbiased for every k.

    Only `standard` has second derivatives: the weights within the others are constants.

    Args:
        k: K, draws within each bound.
        gradient: `standard`, `stl` or `dreg`.
        outer: M, bounds that are averaged; M·K draws in all.
        elbo_weight: c in [0, 1].
        chunk: draws decoded at a time; None for all at once.
    """

    weighs_draws = True

    def __init__(
        self,
        k: int = 5,
        gradient: str = "standard",
        outer: int = 1,
        elbo_weight: float = 0.0,
        chunk: int | None = None,
    ):
        self.gradient = check_choice("objective.gradient", gradient, ("standard", "stl", "dreg"))
        self.outer = check_int("objective.outer", outer)
        draws = self.outer * check_int("objective.k", k)
        super().__init__(draws, chunk)
        self.moves_draws = gradient != "standard"
        self.uses_draws, self.scales_paths = gradient != "standard", gradient == "dreg"
        self.elbo_weight = check_number("objective.elbo_weight", elbo_weight, minimum=0, maximum=1)

    def forward(self, terms: Terms, step: int | Tensor) -> Float[Tensor, ""]:
        """Return the loss in nats per image at optimiser step `step`."""
        log_w = terms.log_w.unflatten(0, (self.outer, -1))  # (M, K, B)
        bound = log_w.logsumexp(1).mean(0) - math.log(log_w.shape[1])
        # In a stack whose members weigh differently it is a tensor.
        if not isinstance(self.elbo_weight, float) or self.elbo_weight:
            bound = torch.lerp(bound, log_w.mean((0, 1)), self.elbo_weight)
        loss = -bound.mean()
        if self.gradient == "standard" or not torch.is_grad_enabled():
            return loss
        surrogate = -self._surrogate(terms, log_w.detach().softmax(1))
        return loss.detach() + surrogate - surrogate.detach()

    def _surrogate(self, terms: Terms, weight: Float[Tensor, "M K B"]) -> Float[Tensor, ""]:
        """Σ_mk c_mk ln w_mk with constant c and without the score term: what has the gradient of the bound."""
        outer, inner, images = weight.shape
        mixed = ((1 - self.elbo_weight) * weight + self.elbo_weight / inner) / outer
        log_w = terms.log_px_z + terms.log_pz - terms.log_qz_path
        surrogate = (mixed.flatten(0, 1) * log_w).sum() / images
        if self.gradient == "dreg":
            assert terms.scale is not None, "terms whose paths cannot be scaled"
            squared = ((1 - self.elbo_weight) * weight.square() + self.elbo_weight / inner) / outer
            # A weight that is 0 sends no gradient to z, whatever its factor.
            factor = (squared / mixed.clamp(min=torch.finfo(mixed.dtype).tiny)).flatten(0, 1)
            surrogate = surrogate + (factor * terms.scale[0] + terms.scale[1]).sum()
        return surrogate
