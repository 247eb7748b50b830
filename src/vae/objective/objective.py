"""What every objective is."""

from abc import ABC, abstractmethod
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn

from vae.objective.terms import Terms

KL = Literal["required", "if_any", "none"]
"""Whether `Terms.kl` is required (then the densities of z are left out), wanted if there is a closed form, or
left out."""


class Objective(nn.Module, ABC):
    """Terms and the optimiser step → the loss. A module, so that what it adapts is in the checkpoint.

    Attributes:
        k: draws of z for each image that the terms must hold.
        kl_needed: whether they must hold the closed-form KL; what is not needed is not computed.
    """

    k: int
    kl_needed: KL

    @abstractmethod
    def forward(self, terms: Terms, step: int) -> Float[Tensor, ""]:
        """The loss in nats per image at optimiser step `step`."""
