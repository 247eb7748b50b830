"""The step of an objective that trains parameters of its own, as an adversary of the model does."""

from typing import Any

import torch

from vae.bound.ranks import mean_over_ranks, of_all_ranks
from vae.objective.objective import Objective
from vae.random import draw_key, set_draws


class OwnStep:
    """Trains an objective's parameters by a loss and an optimiser of their own, after each step of the model.

    To the model's loss they are constants. Each rank makes the step of the whole batch, with the same draws, so
    that all ranks keep the same parameters, and any number of ranks makes the same steps.

    Args:
        objective: that `trains_itself`. It leaves in `seen` what a step is made of.
    """

    def __init__(self, objective: Objective):
        self.objective, self.parameters = objective, list(objective.parameters())
        self.optimizer = objective.own_optimizer(self.parameters)
        self._restored: dict[str, Any] | None = None
        objective.requires_grad_(False)
        objective.seen = None  # what trying the combination of parts has left

    def take(self, key: int) -> None:
        """Make the step of a batch, with draws by its key; none if the model's step has been left out."""
        seen, self.objective.seen = self.objective.seen, None
        if seen is None:
            return
        self._restore()
        set_draws(draw_key("own step", key), seen.device)
        self.objective.requires_grad_(True)
        try:
            gradients = torch.autograd.grad(self.objective.own_loss(of_all_ranks(seen)), self.parameters)
        finally:
            self.objective.requires_grad_(False)
        for parameter, gradient in zip(self.parameters, gradients, strict=True):
            parameter.grad = mean_over_ranks(gradient)  # the same on all, to rounding, and now to the last bit
        self.optimizer.step()
        self.optimizer.zero_grad()

    def state_dict(self) -> dict[str, Any]:
        """Return the optimiser's."""
        return self.optimizer.state_dict() if self._restored is None else self._restored

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there, when the parameters are where they are trained."""
        self._restored = state

    def _restore(self) -> None:
        if self._restored is None:
            return
        # The learning rate is what the config says now.
        typed = [{key: v for key, v in group.items() if key != "params"} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(self._restored)
        for group, numbers in zip(self.optimizer.param_groups, typed, strict=True):
            group |= numbers
        self._restored = None
