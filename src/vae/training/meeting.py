"""Where the members of a stack meet to take their steps together.

Each member runs in a thread of its own, by the code that a single run has. Only one of them runs at a time: it
goes on until its next optimiser steps are due or it ends, then it is another's turn. When all wait for their
steps, these are taken together.
"""

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import torch
from hydra.core.hydra_config import HydraConfig
from torch import Tensor

from vae.data import BatchGroup
from vae.internals import copy_all, count_steps
from vae.training.divergence import Step
from vae.training.module import VAEModule
from vae.training.stack import StackedRuns, Taken, may_be_padded
from vae.training.steps_at_once import StepsAtOnce


class Request(NamedTuple):
    """The steps that a member is about to take."""

    module: VAEModule
    group: BatchGroup
    steps: int


class Share(NamedTuple):
    """A member's part of the steps taken together: `Taken` without the axis of the members."""

    loss: Tensor
    distortion: Tensor
    rate: Tensor
    norm: Tensor


class Meeting:
    """Runs members in turn, and takes their steps together.

    Args:
        keys: for each member, what it has in common with those that it may be stacked with.
        limit: the most members in a stack; None for as many as fit into the memory.
    """

    def __init__(self, keys: Sequence[str], limit: int | None = None):
        self.given, self.keys, self.limit = tuple(keys), list(keys), limit
        self.waiting: dict[int, Request] = {}
        self.shares: dict[int, Share | BaseException] = {}
        self._turns: list[threading.Semaphore] = []
        self._given_back = threading.Semaphore(0)
        self._ended: set[int] = set()
        self._own = threading.local()
        self._stacks: dict[tuple[int, ...], StackedRuns] = {}
        self._contexts: list[_Context] = []
        self._admitted: dict[str, list[int]] = {}

    def run(self, tasks: Sequence[Callable[[], Any]]) -> list[Any]:
        """Return the results of all tasks, whose trainings meet here; of one that raised, the exception."""
        results: list[Any] = [None] * len(tasks)
        contexts = self._contexts = [_Context() for _ in tasks]
        self._turns = [threading.Semaphore(0) for _ in tasks]

        def member(number: int) -> None:
            self._turns[number].acquire()
            self._own.number = number
            token = _meeting.set(self)
            try:
                if isinstance(error := self.shares.get(number), BaseException):
                    raise error
                results[number] = tasks[number]()
            except BaseException as error:
                results[number] = error
            finally:
                _meeting.reset(token)
                self._ended.add(number)
                self._given_back.release()

        threads = [threading.Thread(target=member, args=(n,), name=f"member {n}") for n in range(len(tasks))]
        for thread in threads:
            thread.start()
        main = _Context()
        due = list(range(len(tasks)))
        try:
            while due:
                for number in due:
                    contexts[number].enter()
                    self._turns[number].release()
                    self._given_back.acquire()
                    contexts[number].leave()
                due = self._take_steps()
                main.enter()
        except BaseException as error:
            # What ends the process ends each member where it waits, so that it can let go of what it holds.
            for number in sorted(set(range(len(tasks))) - self._ended):
                self.shares[number] = error
                contexts[number].enter()
                self._turns[number].release()
                self._given_back.acquire()
            raise
        finally:
            main.enter()
            for thread in threads:
                thread.join()
        return results

    def take(self, module: VAEModule, group: BatchGroup, steps: int) -> Share:
        """Called by a member: take so many steps, together with the others."""
        number, model = self._own.number, module.model
        if not may_be_padded(model, module.objective):
            self.keys[number] = f"{self.given[number]} latent_size={model.latent_size}"
        self.waiting[number] = Request(module, group, steps)
        self._given_back.release()
        self._turns[number].acquire()
        share = self.shares.pop(number)
        if isinstance(share, BaseException):
            raise share
        return share

    def _take_steps(self) -> list[int]:
        """Take the steps of those who are furthest behind, all of whom are equally far; their numbers.

        What goes wrong in a stack is raised in each of its members, and in no other.
        """
        ready = {n: r for n, r in self.waiting.items() if n in self._admit(self.keys[n])}
        if not ready:
            return []
        behind = min((r.module.trainer.global_step, r.steps) for r in ready.values())
        due = [n for n, r in ready.items() if (r.module.trainer.global_step, r.steps) == behind]
        for key in dict.fromkeys(self.keys[number] for number in due):
            members = [number for number in due if self.keys[number] == key]
            requests = [self.waiting.pop(number) for number in members]
            # Of a process there is one precision of products, and more of the kind, which are a member's own.
            self._contexts[members[0]].enter()
            try:
                taken = steps_together(self._stacked(members, requests), requests)
            except Exception as error:
                self.shares |= dict.fromkeys(members, error)
                continue
            for place, number in enumerate(members):
                self.shares[number] = Share(*(values[:, place] for values in taken))
        return due

    def _admit(self, key: str) -> list[int]:
        """Return those of a key who take steps: as many as fit, until all of them have ended; then the next."""
        admitted = [number for number in self._admitted.get(key, []) if number not in self._ended]
        if not admitted:
            alike = [number for number in self.waiting if self.keys[number] == key]
            size = self.limit or fitting(self.waiting[alike[0]].module)
            # Equal parts, rather than full ones and a rest.
            admitted = alike[: -(-len(alike) // -(-len(alike) // size))]
            # What the members before them were stacked in, which have ended, is let go of.
            self._stacks = {m: s for m, s in self._stacks.items() if not set(m) <= self._ended}
        self._admitted[key] = admitted
        return admitted

    def _stacked(self, members: Sequence[int], requests: Sequence[Request]) -> StackedRuns:
        """These members' weights as one, made anew only where they were stacked with others before."""
        modules = [request.module for request in requests]
        known = self._stacks.get(tuple(members))
        if known is None or known.runs != modules:
            for stacked in [stacked for stacked in self._stacks if set(stacked) & set(members)]:
                self._stacks.pop(stacked).write_back()
            self._stacks[tuple(members)] = StackedRuns(modules, compiled=modules[0].is_compiled)
        return self._stacks[tuple(members)]


class Alone:
    """In place of a meeting: a single run whose step is one CUDA graph."""

    def __init__(self) -> None:
        self.runs: StackedRuns | None = None

    def take(self, module: VAEModule, group: BatchGroup, steps: int) -> Share:
        """Take so many steps."""
        if self.runs is None or self.runs.runs != [module]:
            self.runs = StackedRuns([module], compiled=True)
        taken = steps_together(self.runs, [Request(module, group, steps)])
        return Share(*(values[:, 0] for values in taken))


_meeting: ContextVar[Meeting | None] = ContextVar("meeting", default=None)


def current_meeting() -> Meeting | None:
    """Return the meeting of whose members this is one; None for a run by itself."""
    return _meeting.get()


@contextmanager
def apart() -> Iterator[None]:
    """Inside, a run is by itself, even if it is a member of a stack."""
    token = _meeting.set(None)
    try:
        yield
    finally:
        _meeting.reset(token)


def steps_together(runs: StackedRuns, requests: Sequence[Request]) -> Taken:
    """Take the steps of a group, each with the draws that each member would have by itself."""
    runs.read()
    first, trainers = requests[0], [request.module.trainer for request in requests]
    steps = first.steps
    begun, every = trainers[0].global_step, trainers[0].log_every_n_steps  # type: ignore[attr-defined]
    batches = [list(request.group.batches())[:steps] for request in requests]
    results = list[Taken]()
    kept: Taken | None = None
    for i in range(steps):
        members = [(request.module, own[i]) for request, own in zip(requests, batches, strict=True)]
        taken = runs.take(members, begun + i, norm_due=(begun + i + 1) % every == 0)
        if not runs.is_captured:
            results.append(taken)
            continue
        kept = kept or Taken(*(values.new_empty((steps, *values.shape)) for values in taken))
        copy_all([values[i] for values in kept], taken)
    if any(trainer.is_last_batch or begun + steps == trainer.max_steps for trainer in trainers):
        runs.write_back()
    elif first.module.objective.adapts:
        runs.give_adapted()
    return kept or Taken(*(torch.stack(values) for values in zip(*results, strict=True)))


def fitting(module: VAEModule) -> int:
    """Return the members of a stack that fit into four fifths of the memory that is free, all of this module's
    size.

    Each has its weights, their gradients and the two averages of Adam, and what is kept of a step for its
    gradients: that is measured in one step, and counted twice for what is freed on the way.
    """
    data, kept = module.data, list[int]()

    def keep(values: Tensor) -> Tensor:
        kept.append(values.nbytes)
        return values

    weights = sum(p.nbytes for p in module.parameters())
    with torch.random.fork_rng(), torch.autograd.graph.saved_tensors_hooks(keep, lambda values: values):
        x = torch.zeros(data.batch_size, *data.image_shape, device=module.device)
        module.forward(x, x, module.model.noise(module.objective.draws, len(x)), 0)
    device = module.device
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else free_memory()
    return max(1, int(0.8 * free / (4 * weights + 2 * sum(kept))))


def free_memory() -> int:
    """Bytes of this machine's memory that no process holds, as far as the system tells."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


class Stacked(StepsAtOnce):
    """A VAEModule that takes its steps together with the other members of a stack, or as a CUDA graph.

    Args:
        meeting: where it takes them.
        *arguments, **options: those of `VAEModule`.
    """

    def __init__(self, meeting: Meeting | Alone, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.meeting = meeting

    def training_step(self, batch: BatchGroup, batch_idx: int) -> None:  # type: ignore[override]
        """Take a step for each batch of a group, and log what a run by itself would."""
        left = self.trainer.max_steps - self.trainer.global_step
        steps = len(batch.keys) if self.trainer.max_steps < 0 else min(len(batch.keys), left)
        if steps == 0:
            return
        taken = self.meeting.take(self, batch, steps)
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        norms, start = taken.norm.tolist(), 0
        while start < steps:
            unlogged = sum(step.loss.numel() for step in self.pending)
            to_norm = every - self.trainer.global_step % every
            stop = min(steps, start + every - unlogged, start + to_norm)
            part = slice(start, stop)
            first = batch_idx * self.data.steps_at_once + start
            self.pending.append(Step(taken.loss[part], taken.distortion[part], taken.rate[part], first))
            count_steps(self.trainer, self.optimizers().optimizer, stop - start)  # type: ignore[union-attr]
            if stop - start == to_norm:
                self.send({"train/grad_norm": norms[stop - 1]}, self.trainer.global_step)
            self.log_means_if_due(self.trainer.is_last_batch and stop == len(batch.keys))
            start = stop
        if steps < len(batch.keys):
            self.cut()
        elif self.trainer.is_last_batch and self.scheduler is not None:
            self.lr_schedulers().step()  # type: ignore[union-attr]


class _Context:
    """What a process has only one of, and each member believes to be its own."""

    def __init__(self) -> None:
        self.leave()

    def leave(self) -> None:
        """Keep it for the next turn."""
        self.streams, self.arguments = (sys.stdout, sys.stderr), sys.argv
        self.hydra, self.environment = HydraConfig.instance().cfg, dict(os.environ)
        self.products = torch.get_float32_matmul_precision()
        self.deterministic = torch.are_deterministic_algorithms_enabled()
        self.warns = torch.is_deterministic_algorithms_warn_only_enabled()

    def enter(self) -> None:
        """Have it again."""
        (sys.stdout, sys.stderr), sys.argv = self.streams, self.arguments
        HydraConfig.instance().cfg = self.hydra
        torch.set_float32_matmul_precision(self.products)
        torch.use_deterministic_algorithms(self.deterministic, warn_only=self.warns)
        if self.environment != os.environ:
            os.environ.clear()
            os.environ.update(self.environment)
