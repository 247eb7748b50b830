"""Several runs of equal shape trained as one batched program.

A stack is an execution and not a kind of model: torch.func.vmap runs the very losses of a single run over the
stacked weights of its members, and one optimiser steps them all. A member is a `VAEModule` with a trainer, data,
callbacks and loggers of its own, and it equals the run that it would be alone, to rounding: only steps are taken
together.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import groupby
from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.linalg import vector_norm
from torch.nn.functional import pad

from vae.data import Batch
from vae.internals import copy_all
from vae.model import LatentModel
from vae.network.pyramid import MemoryFormat
from vae.objective.objective import Objective
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.posterior.posterior import Posterior
from vae.prior.standard_normal import StandardNormal
from vae.random import set_draws
from vae.training.module import VAEModule


class Adaptation(nn.Module):
    """What an objective does after a step, as a function of its buffers."""

    def __init__(self, objective: Objective):
        super().__init__()
        self.objective = objective

    def forward(self, rate: Tensor) -> Tensor:
        """Adapt in place; the rate is given back, as a batched function must give something."""
        self.objective.after_step(rate)
        return rate


CAPTURED = (torch.optim.Adam, torch.optim.AdamW, torch.optim.Adamax)
"""Optimisers that count their steps on the GPU, and so can be part of a graph."""


class Taken(NamedTuple):
    """What came of steps: the losses (S, M), each image's distortion and rate (S, M, B), gradient norms (S, M).

    A norm that nobody asked for is not a number.
    """

    loss: Tensor
    distortion: Tensor
    rate: Tensor
    norm: Tensor


def obstacle(model: LatentModel, objective: Objective, compiled: bool = False) -> str | None:
    """Why a model can only be trained alone; None if it may be stacked.

    Args:
        model: the model.
        objective: its objective.
        compiled: whether the stack would be compiled.
    """
    if compiled and objective.scales_paths:
        # Within vmap torch's compiler (2.14) does not know the Function's rule, and gives wrong gradients.
        return "objective.gradient=dreg is not compiled in a stack (compile=false)"
    if any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.modules()):
        return "batch normalisation changes its statistics in each step"
    if type(model.posterior).draw is Posterior.draw:
        return f"the posterior {type(model.posterior).__name__} draws noise of its own"
    if model.posterior.adapts:
        return f"the posterior {type(model.posterior).__name__} changes in each step"
    if model.classes or model.prior.classes or objective.uses_labels:
        return "labels are used, which a stack's steps are not given"
    if objective.trains_itself:
        return f"the objective {type(objective).__name__} takes steps of its own"
    if objective.chunk is not None and objective.chunk < objective.draws:
        return "objective.chunk decodes draws again for the gradients"
    return None


def may_be_padded(model: LatentModel, objective: Objective) -> bool:
    """Return whether models of other latent sizes may join, with surplus latents of KL 0, z = 0 and no
    gradient.
    """
    posterior = model.posterior
    known = isinstance(posterior, DiagonalGaussian) and isinstance(model.prior, StandardNormal)
    # Else σ of a surplus latent is not 1, and its KL not 0; maps have none at the end of z.
    at_one = known and posterior.log_init_sigma == 0 and posterior.grid is None
    return at_one and not objective.counts_latents


class StackedRuns:
    """The weights and the optimisers' states of M runs as one of each, and the batched step.

    The runs' own weights are current after `write_back`.

    Args:
        runs: modules of equal shape, but for the number of latents where that may be padded.
        optimizers: their own, of one class with one group of parameters each, whose numbers may differ; None for
            those that their trainers have.
        compiled: whether the losses are compiled, and on a GPU the optimiser's step, too.
    """

    def __init__(
        self,
        runs: Sequence[VAEModule],
        optimizers: Sequence[torch.optim.Optimizer] | None = None,
        compiled: bool = False,
    ):
        self.runs, self.compiled = list(runs), compiled
        self.optimizers = list(optimizers or [run.optimizers().optimizer for run in runs])  # type: ignore[union-attr]
        self.clip = runs[0].clip
        self.widest = max(runs, key=lambda run: run.model.latent_size)
        self.parameters = {
            name: self._stacked(name).requires_grad_(own.requires_grad)
            for name, own in self.widest.named_parameters()
        }
        self.buffers = {name: self._stacked(name) for name, _ in self.widest.named_buffers()}
        self.numbers = _differing_numbers(runs)
        self.masks = self._masks()
        self.optimizer, self._slices = self._joint_optimizer()
        self.feed = Feed(self.widest.model.latent_size, self.is_captured)
        # Not bound to this stack, which would then be alive until a search for cycles.
        self._losses_function = StackedRuns._losses
        self._optimizer_step: Callable[[], object] = self.optimizer.step
        if compiled:
            # What earlier stacks had compiled counts against a limit, beyond which nothing more is compiled.
            torch.compiler.reset()
            self._losses_function = torch.compile(StackedRuns._losses)
            if self.is_captured:
                self._optimizer_step = torch.compile(self.optimizer.step)
        self._graph: Graph | None = None

    @property
    def is_captured(self) -> bool:
        """Whether steps are replayed from one CUDA graph."""
        return self.widest.device.type == "cuda" and type(self.optimizers[0]) in CAPTURED

    def take(self, members: Sequence[tuple[VAEModule, Batch]], at: int, norm_due: bool) -> Taken:
        """Take a step with each run, on a GPU as one graph, whose results the next step overwrites.

        Args:
            members: the runs, with the batch of each, which is still to be made ready.
            at: the number of the step, the same for all.
            norm_due: whether the gradients' norms are asked for.
        """
        x, seen, noise = self.feed(members)
        step = torch.full((), at, device=x.device)
        if not self.is_captured:
            taken = self.step(x, seen, noise, step)
        else:
            if self._graph is None:
                self._graph = Graph(self.step, (x, seen, noise, step), self._state)
            taken = self._graph.replay((x, seen, noise, step))
        return taken._replace(norm=self._norm()) if norm_due and self.clip is None else taken

    def _state(self) -> list[Tensor]:
        """Return all that a step changes."""
        moments = [value for state in self.optimizer.state.values() for value in state.values()]
        return [*self.parameters.values(), *self.buffers.values(), *filter(torch.is_tensor, moments)]

    def step(self, x: Tensor, seen: Tensor, noise: Tensor, step: Tensor) -> Taken:
        """Take a step with each run.

        Args:
            x: images (B, C, H, W) for all, or (M, B, C, H, W).
            seen: what the encoders see of them, likewise.
            noise: ε (K, B, E) for all, or (M, K, B, E), nought where a run has fewer latents.
            step: the number of the step, the same for all.
        """
        for parameter in self.parameters.values():
            parameter.grad = None
        loss, distortion, rate = self._losses_function(self, x, seen, noise, step)
        loss.sum().backward()
        for name, mask in self.masks.items():
            gradient = self.parameters[name].grad
            assert gradient is not None
            gradient.mul_(mask)
        norm = torch.full_like(loss, nan) if self.clip is None else self._clip(self.clip)
        for slices, whole in self._slices:
            for first, part in slices:
                part.grad = None if whole.grad is None else whole.grad[first : first + len(part)]
        self._optimizer_step()
        if self.widest.objective.adapts:
            self._adapt(rate)
        return Taken(loss.detach(), distortion, rate, norm)

    def _losses(self, x: Tensor, seen: Tensor, noise: Tensor, step: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        def one(
            parameters: dict[str, Tensor],
            buffers: dict[str, Tensor],
            numbers: dict[str, Tensor],
            x: Tensor,
            seen: Tensor,
            noise: Tensor,
        ) -> tuple[Tensor, Tensor, Tensor]:
            with _given(self.widest, numbers):
                # A layer may have two names, whose weight is one all the same.
                return functional_call(
                    self.widest, (parameters, buffers), (x, seen, noise, step), tie_weights=False
                )

        if len(self.runs) == 1:
            parameters = {name: p[0] for name, p in self.parameters.items()}
            buffers = {name: b[0] for name, b in self.buffers.items()}
            loss, distortion, rate = one(parameters, buffers, {}, x, seen, noise)
            return loss[None], distortion[None], rate[None]
        own_images, own_noise = (0 if x.ndim == 5 else None), (0 if noise.ndim == 4 else None)
        batched = vmap(one, in_dims=(0, 0, 0, own_images, own_images, own_noise))
        return batched(self.parameters, self.buffers, self.numbers, x, seen, noise)

    def _norm(self) -> Tensor:
        """Return the norm of each run's gradient."""
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        return torch.stack([vector_norm(g, dim=tuple(range(1, g.ndim))) for g in gradients]).square().sum(0).sqrt()

    def _clip(self, most: float) -> Tensor:
        """Scale each run's gradient down to a norm of `most` where it is above; the norms of before."""
        norm = self._norm()
        factor = (most / (norm + 1e-6)).clamp(max=1.0)
        for p in self.parameters.values():
            if p.grad is not None:
                p.grad.mul_(factor.view(-1, *[1] * (p.ndim - 1)))
        return norm

    @torch.no_grad()
    def _adapt(self, rate: Tensor) -> None:
        prefix = "objective."
        own = {name: b for name, b in self.buffers.items() if name.startswith(prefix)}
        adaptation = Adaptation(self.widest.objective)
        vmap(lambda buffers, rate: functional_call(adaptation, buffers, (rate,), tie_weights=False))(own, rate)

    def read(self) -> None:
        """Take over what the runs changed by themselves between steps: learning rates and buffers."""
        for group, run in zip(self.optimizer.param_groups, self._firsts, strict=True):
            own = self.optimizers[run].param_groups[0]
            if self.is_captured:
                group["lr"].fill_(own["lr"])
            else:
                group |= {key: value for key, value in own.items() if key != "params"}
        for name, buffer in self.buffers.items():
            # Those of the objective adapt here, and are given back with the weights.
            if not name.startswith("objective."):
                buffer.copy_(self._stacked(name))

    @torch.no_grad()
    def give_adapted(self) -> None:
        """Give each run the buffers that its objective has adapted, which it logs."""
        for index, run in enumerate(self.runs):
            for name, buffer in run.objective.named_buffers():
                buffer.copy_(self.buffers[f"objective.{name}"][index])

    @torch.no_grad()
    def write_back(self) -> None:
        """Give each run its weights, adapted buffers and optimiser's state."""
        self.give_adapted()
        for index, run in enumerate(self.runs):
            state = self.optimizers[index].state
            named = dict(run.named_parameters())
            for name, own in named.items():
                own.copy_(self._own_part(self.parameters[name][index], run, name))
                if own.requires_grad:
                    state[own] = self._own_state(name, index, run)

    def _own_state(self, name: str, index: int, run: VAEModule) -> dict[str, Any]:
        first, part = next((f, p) for f, p in self._slices_of[name] if f <= index < f + len(p))
        return {
            key: self._own_part(value[index - first], run, name).clone()
            if key != "step" and torch.is_tensor(value) and value.shape == part.shape
            else (value.clone() if torch.is_tensor(value) else value)
            for key, value in self.optimizer.state[part].items()
        }

    def _masks(self) -> dict[str, Tensor]:
        """Return, of each parameter that some runs have fewer of, 1 where a run has it, and else 0.

        A surplus latent is to stay at μ = 0, σ = 1 and z = 0, but a density of z has a gradient by ln σ there.
        """
        masks = {}
        for name, stacked in self.parameters.items():
            if any(_tensor(run, name).shape != stacked.shape[1:] for run in self.runs):
                ones = [torch.ones_like(_tensor(run, name)) for run in self.runs]
                pairs = zip(ones, self.runs, strict=True)
                masks[name] = torch.stack([self._padded(one, run, stacked.shape[1:]) for one, run in pairs])
        return masks

    def _stacked(self, name: str) -> Tensor:
        shape = _tensor(self.widest, name).shape
        return torch.stack([self._padded(_tensor(run, name).detach(), run, shape) for run in self.runs])

    def _joint_optimizer(self) -> tuple[torch.optim.Optimizer, list[Any]]:
        """Return one optimiser, with a group of parameters for each stretch of runs whose own have the same
        numbers.
        """
        numbers = [{k: v for k, v in o.param_groups[0].items() if k != "params"} for o in self.optimizers]
        same = groupby(range(len(numbers)), key=lambda run: repr(numbers[run]))
        stretches = [list(stretch) for _, stretch in same]
        self._firsts = [stretch[0] for stretch in stretches]
        trained = {name: p for name, p in self.parameters.items() if p.requires_grad}
        self._slices_of = {
            name: [(s[0], p if len(stretches) == 1 else p.detach()[s[0] : s[-1] + 1]) for s in stretches]
            for name, p in trained.items()
        }
        groups = [
            {"params": [slices[n][1] for slices in self._slices_of.values()], **numbers[s[0]]}
            for n, s in enumerate(stretches)
        ]
        if self.is_captured:
            # A rate that is a number would be the same at each replay.
            for group in groups:
                group |= {"capturable": True, "lr": torch.tensor(float(group["lr"]), device=self.widest.device)}
                if self.compiled:
                    # What the compiler writes is one kernel for many tensors, which the fused step is not if they
                    # are small: it gives each 65,536 numbers one block.
                    group |= {"fused": False, "foreach": True}
        optimizer = type(self.optimizers[0])(groups)  # type: ignore[call-arg]
        for name, slices in self._slices_of.items():
            for first, part in slices:
                if state := self._joint_state(name, first, part):
                    optimizer.state[part] = state
        if len(stretches) == 1:
            return optimizer, []
        return optimizer, [(slices, trained[name]) for name, slices in self._slices_of.items()]

    def _joint_state(self, name: str, first: int, part: Tensor) -> dict[str, Any]:
        """Return the states of a parameter in the runs' own optimisers, which have some where the runs go on."""
        runs = self.runs[first : first + len(part)]
        states = [self.optimizers[first + n].state.get(run.get_parameter(name), {}) for n, run in enumerate(runs)]
        return {
            key: torch.stack(
                [self._padded(state[key], run, part.shape[1:]) for state, run in zip(states, runs, strict=True)]
            )
            if key != "step" and torch.is_tensor(value) and value.shape == runs[0].get_parameter(name).shape
            else (value.to(self._device_of_steps(value), copy=True) if torch.is_tensor(value) else value)
            for key, value in states[0].items()
        }

    def _device_of_steps(self, step: Tensor) -> torch.device:
        """Return where the optimiser counts: on the GPU if its step is part of a graph."""
        return self.widest.device if self.is_captured else step.device

    def _padded(self, own: Tensor, run: VAEModule, shape: torch.Size) -> Tensor:
        """Return a tensor of a run with fewer latents in the shape of the widest's, with nought for the
        surplus ones.
        """
        for axis, places in self._places(own.shape, run, shape):
            size = [*own.shape[:axis], shape[axis], *own.shape[axis + 1 :]]
            own = own.new_zeros(size).index_copy(axis, places.to(own.device), own)
        return own

    def _own_part(self, wide: Tensor, run: VAEModule, name: str) -> Tensor:
        """Return the part of the widest's tensor that a run with fewer latents has."""
        for axis, places in self._places(_tensor(run, name).shape, run, wide.shape):
            wide = wide.index_select(axis, places.to(wide.device))
        return wide

    def _places(self, own: torch.Size, run: VAEModule, wide: torch.Size) -> Iterator[tuple[int, Tensor]]:
        """Yield the axes along which a run's tensor is smaller, and where its entries are in the widest's.

        An axis has an entry for each latent, or for each mean and then for each ln σ.
        """
        few, many = run.model.latent_size, self.widest.model.latent_size
        for axis, (here, there) in enumerate(zip(own, wide, strict=True)):
            if here != there:
                assert (here, there) in ((few, many), (2 * few, 2 * many)), "an axis that is none of latents"
                starts = range(0, there, many)
                yield axis, torch.cat([torch.arange(start, start + few) for start in starts])


def _tensor(run: VAEModule, name: str) -> Tensor:
    """Return a parameter or a buffer by its name."""
    owner, _, leaf = name.rpartition(".")
    return getattr(run.get_submodule(owner), leaf)


def _differing_numbers(runs: Sequence[VAEModule]) -> dict[str, Tensor]:
    """Float attributes that are not the same in all runs, such as β or a least σ, for each run."""
    found = {}
    for path, module in runs[0].named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, float):
                values = [getattr(run.get_submodule(path), attribute) for run in runs]
                if any(other != value for other in values):
                    found[f"{path}.{attribute}"] = torch.tensor(values, device=runs[0].model.device)
    return found


class Feed:
    """Draws what a step is fed with: images x, what the encoders see of them, and noise.

    The members of one key and one number of latents share one stream of draws. On a GPU a stream is drawn by a
    graph, and what it gives stays in one place, where the next step's will be.

    Args:
        latents: of the noise, nought where a member has fewer.
        captured: whether there are graphs.
    """

    def __init__(self, latents: int, captured: bool):
        self.latents, self.captured = latents, captured
        self._graphs: dict[int, Graph] = {}
        self._places: tuple[Tensor, ...] = ()

    def __call__(self, members: Sequence[tuple[VAEModule, Batch]]) -> tuple[Tensor, Tensor, Tensor]:
        """Return x and seen (B, C, H, W) if all have the same, else (M, B, C, H, W); noise (K, B, E) or (M, K,
        B, E).
        """
        streams = dict[tuple[int, int], list[int]]()
        for place, (module, batch) in enumerate(members):
            streams.setdefault((batch.key, module.model.latent_size), []).append(place)
        if len(streams) == 1:
            return self._drawn(*members[0])
        one_order = len({key for key, _ in streams}) == 1
        for places in streams.values():
            drawn = self._drawn(*members[places[0]])
            if not self._places or (not self.captured and places[0] == 0):
                # Beside a graph they are always the same; without one, what has been given out must stay.
                own = (not one_order, not one_order, True)
                self._places = tuple(
                    v.new_empty((len(members), *v.shape) if each else v.shape)
                    for v, each in zip(drawn, own, strict=True)
                )
            x, seen, noise = self._places
            images = [x, seen] if one_order else [*(x[place] for place in places), *(seen[p] for p in places)]
            given = [drawn[0], drawn[1]] if one_order else [drawn[0]] * len(places) + [drawn[1]] * len(places)
            copy_all([*images, *(noise[place] for place in places)], [*given, *[drawn[2]] * len(places)])
        return self._places  # type: ignore[return-value]

    def _drawn(self, module: VAEModule, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        set_draws(batch.key, batch.image.device)
        draw = partial(self._draw, module)
        if not self.captured:
            return draw(batch.image)
        latents = module.model.latent_size
        if latents not in self._graphs:
            self._graphs[latents] = Graph(draw, (batch.image.clone(),), list)
            set_draws(batch.key, batch.image.device)
        return self._graphs[latents].replay((batch.image,))

    def _draw(self, module: VAEModule, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = module.data.to_x(image)
        seen, noise = module.corruption(x), module.model.noise(module.objective.draws, len(x))
        return x, seen, pad(noise, (0, self.latents - noise.shape[-1]))


class Graph:
    """A function as one CUDA graph: launched as a whole, in a fraction of the time that its kernels take alone.

    Args:
        function: of tensors of always the same shapes.
        inputs: those of a first call, which is not made. They are the graph's own from then on.
        state: all tensors that a call changes, some of which are only made by a first one.
    """

    WARM_UP = 3

    def __init__(
        self, function: Callable[..., Any], inputs: Sequence[Tensor], state: Callable[[], Sequence[Tensor]]
    ):
        self.inputs = list(inputs)
        before = [(values, values.detach().clone()) for values in state()]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(self.WARM_UP):
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.results = function(*self.inputs)
        with torch.no_grad():
            known = {id(values) for values, _ in before}
            for values, saved in before:
                values.copy_(saved)
            for values in state():
                if id(values) not in known:
                    values.zero_()

    def replay(self, inputs: Sequence[Tensor]) -> Any:
        """Call the function; its results are overwritten by the next call."""
        for own, given in zip(self.inputs, inputs, strict=True):
            if own is not given:
                own.copy_(given)
        self.graph.replay()
        return self.results


@contextmanager
def _given(run: VAEModule, numbers: Mapping[str, Tensor]) -> Iterator[None]:
    """Inside, attributes of a run have the numbers given, and feature maps the one layout that vmap knows."""
    attributes = [name.rpartition(".")[::2] for name in numbers]
    changes: list[tuple[nn.Module, str, Any]] = [
        (run.get_submodule(path), attribute, value)
        for (path, attribute), value in zip(attributes, numbers.values(), strict=True)
    ]
    changes += [
        (m, "memory_format", torch.contiguous_format) for m in run.modules() if isinstance(m, MemoryFormat)
    ]
    before = [(module, attribute, getattr(module, attribute)) for module, attribute, _ in changes]
    try:
        for module, attribute, value in changes:
            setattr(module, attribute, value)
        yield
    finally:
        for module, attribute, value in before:
            setattr(module, attribute, value)
