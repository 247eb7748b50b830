"""How the training step is executed: options that change its speed or memory, but not what is computed.

They wrap the step from outside: without them `VAEModule.forward` is what is done.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor

from vae.bound.chunk import terms_in_chunks
from vae.bound.terms import Terms
from vae.checks import ConfigError, check_choice
from vae.model import LatentModel
from vae.objective.objective import Objective

CUDA_GRAPH = "cuda-graph"
"""The whole step, optimiser included, as one CUDA graph; the other modes are torch.compile's."""
MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", CUDA_GRAPH)
WITH_CUDA_GRAPHS = ("reduce-overhead", "max-autotune")
MATMUL_PRECISIONS = ("highest", "high", "medium")
NETWORK_TYPES = {"32-true": None, "bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}

TermsOf = Callable[..., Terms]
"""x, q(z|x), noise and, by name, labels → the terms."""
Losses = Callable[..., tuple[Tensor, Tensor, Tensor]]
"""x, what the encoder sees, noise, the step and maybe labels → what `VAEModule.forward` gives."""


@dataclass(frozen=True)
class Execution:
    """Options of the training step.

    compile_mode: None, or how torch.compile is to compile what leads from images and noise to the loss.
    recompute_decoder: whether the decoder's activations are computed again for the gradients instead of kept.
    """

    compile_mode: str | None = None
    recompute_decoder: bool = False


def compile_mode(option: object) -> str | None:
    """Return the mode of `compile=true`, `compile=false` and `compile.mode=…`; None for not to compile.

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


def set_network_type(model: LatentModel, precision: str) -> None:
    """Have encoder and decoder compute in what `trainer.precision` says; everything else stays float32.

    Raises:
        ConfigError: there is no such precision.
    """
    dtype = NETWORK_TYPES[check_choice("trainer.precision", precision, NETWORK_TYPES)]
    if dtype is not None:
        for network in (model.encoder, model.decoder):
            network.forward = _in_type(network.forward, dtype)


def _in_type(forward: Callable[..., Tensor], dtype: torch.dtype) -> Callable[..., Tensor]:
    """Return the same with products and convolutions in `dtype`, the result in the type of what it is given."""

    def run(values: Tensor, *label: Tensor) -> Tensor:
        with torch.autocast(values.device.type, dtype):
            return forward(values, *label).to(values.dtype)

    return run


class ScaledGradients(MixedPrecision):
    """Lightning's scaling of losses for float16, without its autocast around the whole step."""

    def __init__(self) -> None:
        super().__init__("16-mixed", "cuda")

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """Leave it to the networks (`set_network_type`)."""
        yield


def terms_of(model: LatentModel, objective: Objective, execution: Execution) -> TermsOf:
    """Images, q(z|x) and noise → the terms: `model.terms`, or the same in less memory."""
    chunk = objective.chunk
    if not execution.recompute_decoder and (chunk is None or chunk >= objective.draws):
        return partial(model.terms, scales_paths=True) if objective.scales_paths else model.terms

    def in_chunks(
        x: Tensor, q: torch.distributions.Distribution, noise: Tensor, label: Tensor | None = None
    ) -> Terms:
        uses = objective.uses_log_densities, objective.uses_draws, objective.scales_paths
        return terms_in_chunks(model, x, q, noise, chunk, *uses, label=label)

    return in_chunks


def losses_of(losses: Losses, execution: Execution) -> Losses:
    """Return the same function, compiled if it is to be.

    It is one graph for the whole of training, whose batches all have one shape; evaluation, with its shorter last
    batch and other numbers of draws, is not compiled. The noise is drawn outside, so that the numbers are those of
    eager execution; the step is a tensor, since a number would be compiled in.
    """
    mode = execution.compile_mode
    if mode in (None, CUDA_GRAPH):
        return losses
    assert mode is not None
    graph = torch.compile(losses, mode=mode)

    def run(
        x: Tensor, seen: Tensor, noise: Tensor, step: int | Tensor, *label: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        at = torch.full((), int(step), device=x.device)
        if mode not in WITH_CUDA_GRAPHS:
            return graph(x, seen, noise, at, *label)
        torch.compiler.cudagraph_mark_step_begin()
        # The next step's replay writes over a graph's results, and those of several steps are kept to be logged.
        loss, distortion, rate = graph(x, seen, noise, at, *label)
        return loss.clone(), distortion.clone(), rate.clone()

    return run
