"""β as a pure function of the optimiser step, so that resuming a run does not change it."""

import torch
from torch import Tensor

from vae.checks import check_int, check_number


class Linear:
    """A β that rises linearly from `start` to `end` over the first `steps` steps and stays there.

    Source: S. Bowman et al., Generating sentences from a continuous space, 2016, section 3.1.
    """

    def __init__(self, steps: int, start: float = 0.0, end: float = 1.0):
        self.steps = check_int("objective.beta.steps", steps)
        self.start = check_number("objective.beta.start", start, minimum=0)
        self.end = check_number("objective.beta.end", end, minimum=0)

    def __call__(self, step: int | Tensor) -> Tensor:
        return self.start + (self.end - self.start) * _at_most_one(step, self.steps)


class Cyclical:
    """A β that rises and is reset in each period of `steps` steps.

    It rises linearly from `start` to `end` over the first part `rise` of the period, and then stays.

    Source: H. Fu et al., Cyclical annealing schedule, 2019, equation 6.
    """

    def __init__(self, steps: int, rise: float = 0.5, start: float = 0.0, end: float = 1.0):
        self.steps = check_int("objective.beta.steps", steps)
        self.rise = check_number("objective.beta.rise", rise, above=0, maximum=1)
        self.start = check_number("objective.beta.start", start, minimum=0)
        self.end = check_number("objective.beta.end", end, minimum=0)

    def __call__(self, step: int | Tensor) -> Tensor:
        return self.start + (self.end - self.start) * _at_most_one(step % self.steps, self.steps * self.rise)


def _at_most_one(steps: int | Tensor, of: float) -> Tensor:
    """Return min(steps / of, 1), in float64 and without waiting for a device."""
    return (torch.as_tensor(steps, dtype=torch.float64) / of).clamp(max=1.0)
