"""β as a controller: whatever makes the rate meet a target."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae.bound.ranks import mean_over_ranks
from vae.checks import check_number


class TargetRate(nn.Module):
    """`objective/beta=target_rate`: β rises while KL(q‖p) is above the target, and falls while it is below.

    After each training step ln β ← ln β + speed · clip((rate − target) / target, −1, 1): an integral
    controller of the multiplier of the constraint rate = target (Rezende & Viola 2018, Taming VAEs, section
    3; with the rate as the constrained quantity, Shao et al. 2020, ControlVAE). ln β is in the checkpoint, so
    that a resumed run goes on with it; it is the one weight here that is no pure function of the step.

    Args:
        target_rate: in nats per image.
        speed: the largest change of ln β in one step.
        start: β at the start.
        min_beta: the lower bound of β.
        max_beta: the upper bound of β.
    """

    log_beta: Tensor

    def __init__(
        self,
        target_rate: float,
        speed: float = 0.01,
        start: float = 1.0,
        min_beta: float = 1e-4,
        max_beta: float = 1e4,
    ):
        super().__init__()
        self.target_rate = check_number("objective.beta.target_rate", target_rate, above=0)
        self.speed = check_number("objective.beta.speed", speed, above=0)
        self.min_beta = check_number("objective.beta.min_beta", min_beta, above=0)
        self.max_beta = check_number("objective.beta.max_beta", max_beta, minimum=min_beta)
        check_number("objective.beta.start", start, minimum=min_beta, maximum=max_beta)
        self.register_buffer("log_beta", torch.tensor(math.log(start)))

    def forward(self, step: int | Tensor) -> Float[Tensor, ""]:
        """β now, on the device."""
        return self.log_beta.exp()

    @torch.no_grad()
    def observe(self, rate: Float[Tensor, ""]) -> None:
        """Adapt β to the batch's rate, which is averaged over the ranks so that all keep the same β."""
        # A step that is left out because its rate is not finite must not move β.
        error = (
            ((mean_over_ranks(rate) - self.target_rate) / self.target_rate).nan_to_num(0.0, 0.0, 0.0).clamp(-1, 1)
        )
        self.log_beta.add_(self.speed * error).clamp_(math.log(self.min_beta), math.log(self.max_beta))
