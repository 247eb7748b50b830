"""How many CPU threads a training uses."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning import Trainer

from vae.callback.model_summary import flops
from vae.checks import ConfigError, check_int
from vae.training.meeting import current_meeting
from vae.training.module import VAEModule

FLOPS_PER_THREAD = 5e8
"""The arithmetic of a step that keeps a thread busy: with less, threads wait longer than they save."""


def threads_for(asked: int | str, module: VAEModule, trainer: Trainer, batch_size: int) -> int:
    """Return how many CPU threads torch is to use.

    Automatically it is one for each half a GFLOP of a training step, and at most as many as torch would take by
    itself: a rule of sizes alone, so that a run has as many threads whatever else the machine does.

    Args:
        asked: a number, or `auto`.
        module: what is to be trained.
        trainer: the trainer, which knows the devices.
        batch_size: the images of a step, on all devices together.

    Raises:
        ConfigError: it is neither, or more than the machine can serve.
    """
    there = torch.get_num_threads()
    if asked != "auto":
        if isinstance(asked, str):
            raise ConfigError(f"threads={asked}: must be auto or a whole number of at least 1")
        return check_int("threads", asked, maximum=max(8, os.cpu_count() or 1))
    if there == 1 or trainer.strategy.root_device.type != "cpu" or current_meeting() is not None:
        # The members of a stack are trained together.
        return there
    # A backward pass costs twice its forward pass.
    step = 3 * flops(module.model) * batch_size // trainer.world_size * module.objective.draws
    return min(max(round(step / FLOPS_PER_THREAD), 1), there)


@contextmanager
def use_threads(number: int) -> Iterator[None]:
    """Inside, torch uses so many CPU threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
