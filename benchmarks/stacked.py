"""Stacks on the CPU.

A grid of 18 jobs is timed under each launcher, and a step of a stack is compared with steps of its members alone.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

import torch
from hydra.utils import instantiate
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.eight_jobs import PROCESSES, seconds
from benchmarks.memory import allocated_mebibytes
from benchmarks.spread import spread
from benchmarks.workload import MLP, composed_step
from vae.training.build import build_model
from vae.training.module import VAEModule
from vae.training.stack import StackedRuns

GRID = ("latent_size=2,6,16", "objective.k=1,5,10", "likelihood.sigma=0.1,0.3")
MODELS = {
    "the default model of the digits": ((), torch.Size((64, 1, 8, 8))),
    "784-400-20": (MLP, torch.Size((128, 1, 28, 28))),
}
"""The overrides of each model, and the shape of a batch."""
MEMBERS = (1, 2, 4, 8, 16)
STEPS = 20
PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "stacked.png"


def launchers(folder: str) -> dict[str, float]:
    """Return the seconds of the grid under each launcher. Parallel launchers have two processes of one thread."""
    ways = {"basic": list[str](), "stacked": [f"hydra.launcher.processes={PROCESSES}"]}
    if find_spec("hydra_plugins.hydra_joblib_launcher"):
        ways["joblib"] = [f"hydra.launcher.n_jobs={PROCESSES}"]
    common = ("-m", *GRID, "trainer.max_epochs=60")
    return {
        name: seconds(*common, f"hydra/launcher={name}", *more, f"hydra.sweep.dir={folder}/{name}")
        for name, more in ways.items()
    }


def stack(overrides: Sequence[str], shape: torch.Size, members: int) -> StackedRuns:
    """Return a stack of modules that differ in their seed."""
    made = []
    for seed in range(members):
        torch.manual_seed(seed)
        config = composed_step(*overrides)
        model = build_model(config, (shape[1], shape[2], shape[3]))
        made.append(VAEModule(model, instantiate(config.objective), instantiate(config.optimizer)))
    return StackedRuns(made, [run.optimizer(run.parameters()) for run in made])


def together(runs: StackedRuns, x: Tensor) -> Callable[[], object]:
    """Return a step of a stack."""
    noise, at = runs.widest.model.noise(1, len(x)), torch.tensor(0)
    return lambda: runs.step(x, x, noise, at)


def alone(runs: StackedRuns, x: Tensor) -> Callable[[], object]:
    """Return a step of each member on its own, as training without a stack takes it."""
    noise = runs.widest.model.noise(1, len(x))

    def steps() -> None:
        for run, optimizer in zip(runs.runs, runs.optimizers, strict=True):
            loss = run.forward(x, x, noise, 0)[0]
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return steps


def milliseconds(step: Callable[[], object]) -> float:
    """Return the processor time of a step in milliseconds."""
    started = time.process_time()
    for _ in range(STEPS):
        step()
    return 1e3 * (time.process_time() - started) / STEPS


def steps(turns: int) -> dict[str, Any]:
    """Measure a stack's step against those of its members, by model and number of members.

    The result has the ratios of turns that follow each other, and the memory of the stack.
    """
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    for name, (overrides, shape) in MODELS.items():
        x = torch.rand(shape).round()
        for members in MEMBERS:
            runs = stack(overrides, shape, members)
            ways = [together(runs, x), alone(runs, x)]
            for way in ways:
                way()
            times = [[milliseconds(way) for way in ways] for _ in range(3 * turns)]
            weights = sum(p.nbytes for p in runs.parameters.values()) / 2**20
            found.setdefault(name, {})[str(members)] = {
                "milliseconds": median(stacked for stacked, _ in times),
                "alone_over": spread([apart / stacked for stacked, apart in times]),
                "weights_mebibytes": weights,
                "allocated_mebibytes": allocated_mebibytes(ways[0]),
            }
    return found


def measure(turns: int) -> dict[str, Any]:
    """Measure the launchers, with ratios within each turn, and the steps."""
    found = []
    for _ in range(min(turns, 3)):
        with tempfile.TemporaryDirectory() as folder:
            found.append(launchers(folder))
    over = {way: spread([turn[way] / turn["stacked"] for turn in found]) for way in found[0]}
    times = {way: median(turn[way] for turn in found) for way in found[0]}
    return {"seconds": times, "over_stacked": over, "steps": steps(turns)}


def draw(found: dict[str, Any]) -> None:
    """Draw the cost of a step against the number of members, beside that of the members alone."""
    figure = Figure(figsize=(7, 3), dpi=110, layout="constrained")
    for axes, (name, by_members) in zip(figure.subplots(1, 2), found["steps"].items(), strict=True):
        members = [int(number) for number in by_members]
        stacked = [each["milliseconds"] for each in by_members.values()]
        apart = [each["milliseconds"] * each["alone_over"]["median"] for each in by_members.values()]
        axes.plot(members, apart, "s--", markersize=3.5, linewidth=1.2, label="one by one")
        axes.plot(members, stacked, "o-", markersize=3.5, linewidth=1.2, label="stacked")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks(members, [str(number) for number in members])
        axes.set_title(name, fontsize=9)
        axes.set_xlabel("members", fontsize=8)
        axes.set_ylabel("ms a step of all, one thread", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(alpha=0.3, linewidth=0.5)
        axes.legend(fontsize=7)
    figure.savefig(PICTURE)
