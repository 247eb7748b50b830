"""How the training step is executed: options that change its speed or memory, but not what is computed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vae.bound.terms import Terms
from vae.checks import ConfigError, check_choice
from vae.model import LatentModel
from vae.objective.objective import Objective
from vae.training.divergence import Step

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
WITH_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
MATMUL_PRECISIONS = ("highest", "high", "medium")
Tensors = tuple[Tensor | None, ...]


@dataclass(frozen=True)
class Execution:
    """Options of the training step.

    steps_at_once: optimiser steps between two visits to Lightning's loop, `auto` or a number (see
    `vae.training.steps_at_once`). compile_mode: None, or how torch.compile is to compile what leads from images to
    terms.
    recompute_decoder: whether the decoder's activations are computed again for the gradients instead of kept.
    """

    steps_at_once: int | str = "auto"
    compile_mode: str | None = None
    recompute_decoder: bool = False


def compile_mode(option: object) -> str | None:
    """The mode of `compile=true`, `compile=false` and `compile.mode=…`; None for not to compile.

    Raises:
        ConfigError: there is no such mode.
    """
    if isinstance(option, Mapping):
        mode = option.get("mode")
        return None if mode is None else check_choice("compile.mode", mode, MODES)
    if isinstance(option, bool) or option is None:
        return "default" if option else None
    raise ConfigError(f"compile={option}: must be true, false or a mode, as in compile.mode=reduce-overhead")


def set_matmul_precision(precision: str) -> None:
    """Set how many bits of float32 the matrix products of this process use.

    Raises:
        ConfigError: there is no such precision.
    """
    torch.set_float32_matmul_precision(check_choice("matmul_precision", precision, MATMUL_PRECISIONS))


def loss_function(
    model: LatentModel, objective: Objective, execution: Execution
) -> Callable[[Tensor, Tensor, int], Step]:
    """Images x, what the encoder sees of them and the optimiser step → the loss, and what is logged beside it.

    Compiled, it is one graph for the whole of training, whose batches all have one shape; evaluation, with its
    shorter last batch and other numbers of draws, is not compiled. An objective that changes with the step is left
    out of the graph, which would otherwise be compiled anew for each step; that costs some 7 % of a small model's.

    Raises:
        ConfigError: the objective cannot be compiled.
    """
    needs, draws, chunk = objective.needs, objective.draws, objective.chunk

    def terms(x: Tensor, seen: Tensor) -> Terms:
        return model.terms(x, model.encode(seen), draws, needs.kl, needs.latent_kl, needs.path, chunk)

    def step_of(terms: Terms, step: int) -> Step:
        return objective(terms, step), terms.distortion.detach(), terms.rate.detach()

    if execution.compile_mode is None:
        return lambda x, seen, step: step_of(terms(x, seen), step)
    if getattr(objective, "gradient", None) == "dreg":
        # It changes the gradient where it reaches the draws, which would be inside what is compiled.
        raise ConfigError("compile: must be false with objective.gradient=dreg")
    if objective.is_constant:
        whole = _compiled(lambda x, seen: step_of(terms(x, seen), 0), execution.compile_mode)
        return lambda x, seen, step: whole(x, seen)  # type: ignore[return-value]

    names = [field.name for field in fields(Terms) if field.init]

    def tensors(x: Tensor, seen: Tensor) -> Tensors:
        found = terms(x, seen)
        return tuple(getattr(found, name) for name in names)

    compiled = _compiled(tensors, execution.compile_mode)
    return lambda x, seen, step: step_of(Terms(*compiled(x, seen)), step)  # type: ignore[arg-type]


def _compiled(function: Callable[[Tensor, Tensor], Tensors], mode: str) -> Callable[[Tensor, Tensor], Tensors]:
    compiled = torch.compile(function, mode=mode)
    if mode not in WITH_CUDA_GRAPHS:
        return compiled

    def replayed(x: Tensor, seen: Tensor) -> Tensors:
        torch.compiler.cudagraph_mark_step_begin()
        # The next step's replay writes over a graph's results, and those of several steps are kept to be logged.
        return tuple(None if found is None else found.clone() for found in compiled(x, seen))

    return replayed
