"""What every objective is."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from vae.bound.terms import Terms
from vae.checks import check_int

KL = Literal["required", "if_any", "none"]
"""Whether `Terms.kl` is required (then the densities of z are left out), wanted if there is a closed form, or
left out."""
LatentKL = Literal["analytic", "monte_carlo", "none"]
"""Whether `Terms.latent_kl` is there in closed form, from the draws, or not at all."""


@dataclass(frozen=True)
class Needs:
    """What an objective's terms must hold; what is not needed is not computed.

    kl: whether `Terms.kl`. latent_kl: whether and in which form `Terms.latent_kl`. path: whether `Terms.z` and
    `Terms.log_qz_path`. Beside the terms, density: whether q(z|x) must have one; prior: whether p(z) is trained.
    """

    kl: KL = "none"
    latent_kl: LatentKL = "none"
    path: bool = False
    density: bool = True
    prior: bool = True


class Objective(nn.Module, ABC):
    """Terms and the optimiser step → the loss. A module, so that what it adapts is in the checkpoint.

    Args:
        draws: draws of z for each image that the terms must hold.
        chunk: how many of these are decoded at a time; None for all at once.
        needs: what else the terms must hold.
    """

    def __init__(self, draws: int, chunk: int | None, needs: Needs):
        super().__init__()
        self.draws, self.needs = draws, needs
        self.chunk = None if chunk is None else check_int("objective.chunk", chunk)

    @abstractmethod
    def forward(self, terms: Terms, step: int) -> Float[Tensor, ""]:
        """The loss in nats per image at optimiser step `step`."""

    @property
    def is_constant(self) -> bool:
        """Whether the loss is the same function of the terms at every step; False says nothing."""
        return False

    def numbers(self, step: int) -> dict[str, float]:
        """What is to be logged beside the loss, by name."""
        return {}
