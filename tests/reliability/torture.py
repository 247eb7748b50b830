"""Interrupt runs at random moments, resume them, and compare every bit with an uninterrupted run.

    python -m reliability.torture [trials=60] [seed=0] [folder=runs/torture]

Each trial draws a configuration, a number of ranks and how the run ends, up to three times: a signal at a random
time, or SIGKILL or an exception at a random call of a function of the run. Then it is resumed until it is done.
"""

import functools
import importlib
import os
import random
import re
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import OmegaConf

from reliability.forked_train import Forked, group_members, preload, start

TINY = [
    "trainer.max_epochs=4",
    "trainer.accelerator=cpu",
    "network.hidden_sizes=[16]",
    "latent_size=2",
    "data.batch_size=256",
    "data.eval_batch_size=90",
    "logger=csv",
]
TWO_RANKS = ["trainer.devices=2", "trainer.strategy=ddp"]
STOP_EARLY = (
    "+callback.stop={_target_:lightning.pytorch.callbacks.EarlyStopping,"
    "monitor:val/elbo,mode:max,patience:1,min_delta:9}"
)
CONFIGURATIONS = {
    "elbo": ["callback=none", "scheduler=cosine", "optimizer.lr=0.01"],
    "target_rate": ["callback=none", "objective/beta=target_rate", "objective.beta.target_rate=2"],
    "iwae": ["callback=none", "objective=iwae", "objective.k=4", "objective.gradient=dreg", "optimizer=adamax"],
    "optimal_sigma_ema": ["callback=ema", "likelihood=gaussian_optimal", "callback.ema.decay=0.9"],
    "vamp_dynamic": [
        "callback=none",
        "prior=vamp",
        "prior.components=5",
        "objective.kl=monte_carlo",
        "likelihood=bernoulli",
        "data.binarize=dynamic",
    ],
    "flow_denoising": [
        "callback=none",
        "posterior=flow",
        "posterior.hidden_sizes=[8]",
        "objective.kl=monte_carlo",
        "corruption=mask",
        "scheduler=warmup",
    ],
    "autoencoder": [
        "callback=none",
        "posterior=delta",
        "objective=reconstruction",
        "monitor.metric=val/distortion",
        "monitor.mode=min",
        "sweep_metric=val/distortion",
    ],
    "best_three": ["callback=top", "callback.pictures=null", "optimizer.lr=0.05", "trainer.max_epochs=8"],
    "max_steps": ["callback=none", "scheduler=step", "scheduler.step_size=1", "trainer.max_steps=14"],
    "max_time": ["callback=none", "+trainer.max_time={days:9}", "trainer.num_sanity_val_steps=1"],
    "more_epochs": ["callback=none", "objective/beta=linear", "objective.beta.steps=10"],
    "more_steps": ["callback=none", "optimizer=adamw", "trainer.max_steps=14"],
    "early_stopping": ["callback=none", STOP_EARLY, "trainer.max_epochs=9"],
    "learned_sigma_clipped": [
        "callback=default",
        "likelihood=gaussian_learned",
        "optimizer=adamw",
        "trainer.gradient_clip_val=1",
        "objective/beta=linear",
        "objective.beta.steps=10",
        "callback.watch.every_n_epochs=1",
        "callback.pictures.every_n_epochs=2",
    ],
}
BEGINS = {"more_epochs": ["trainer.max_epochs=2"], "more_steps": ["trainer.max_steps=6"]}
"""What configurations that are extended begin with; what they end with is typed at every resumption."""
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
PLACES = {
    "config": "vae.run.directory:RunDirectory.write_config",
    "training": "vae.training.module:VAEModule.training_step",
    "validation": "vae.training.module:VAEModule.validation_step",
    "test": "vae.training.module:VAEModule.test_step",
    "checkpoint_write": "vae.run.checkpoint:_write_sealed",
    "checkpoint_check": "vae.run.checkpoint:check_seal",
    "checkpoint_predecessor": "vae.run.checkpoint:_keep_predecessor",
    "checkpoint_named": "vae.run.checkpoint:_flush_names",
    "csv": "vae.logger.metrics_csv:MetricsCSV.save",
    "resume": "vae.logger.metrics_csv:MetricsCSV.continue_after",
    "metrics_json": "vae.run.directory:RunDirectory.write_metrics",
}


class Fault(NamedTuple):
    """How a run is made to end: after some seconds, or at some call of a function."""

    signum: int | None
    seconds: float = 0.0
    place: str = ""
    call: int = 0
    rank: int = 0

    @property
    def name(self) -> str:
        """In words, for the count."""
        what = "exception" if self.signum is None else signal.Signals(self.signum).name
        return f"{what} in {self.place}" if self.place else f"{what} at a random time"


def draw_fault(draw: random.Random, seconds: float, ranks: int) -> Fault:
    """A fault for a run that takes `seconds`."""
    if draw.random() < 0.5:
        return Fault(draw.choice(SIGNALS), seconds=draw.uniform(0, 1.1 * seconds))
    place = draw.choice(list(PLACES))
    signum = draw.choice((signal.SIGKILL, None))
    return Fault(
        signum, place=place, call=draw.randrange(1, 18 if place == "training" else 6), rank=draw.randrange(ranks)
    )


def sabotage(fault: Fault) -> None:
    """Have this process fail at the fault's call of the fault's function."""
    module, _, path = PLACES[fault.place].partition(":")
    owner: Any = importlib.import_module(module)
    *outer, name = path.split(".")
    for step in outer:
        owner = getattr(owner, step)
    function, calls = getattr(owner, name), 0

    @functools.wraps(function)
    def failing(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += int(os.environ.get("LOCAL_RANK", "0")) == fault.rank
        if calls == fault.call:
            if fault.signum is None:
                raise RuntimeError("planted")
            if fault.place == "checkpoint_write":
                # Half of it is there.
                args[0].write_bytes(bytes(args[1])[: len(args[1]) // 2])
            os.kill(os.getpid(), fault.signum)
        return function(*args, **kwargs)

    setattr(owner, name, failing)


def run_once(arguments: list[str], folder: Path, fault: Fault | None, more: list[str] | None = None) -> int:
    """Start or resume the run in a folder, let the fault happen, and see that nothing is left of it.

    Args:
        arguments: with which it is started.
        folder: where it is.
        fault: what is to happen to it.
        more: with which it is resumed.

    Raises:
        AssertionError: a process was left behind.
    """
    command = [*arguments, f"hydra.run.dir='{folder}'"]
    if (folder / ".hydra" / "config.yaml").exists():
        command = [f"resume={folder}", *(more or [])]
    planted = functools.partial(sabotage, fault) if fault is not None and fault.place else None
    process = start(command, folder.with_suffix(".log"), planted)
    if fault is not None and not fault.place:
        assert fault.signum is not None
        _wait_or(process, fault.seconds)
        process.send_signal(fault.signum)
    status = process.wait()
    deadline = time.monotonic() + 15
    while left := group_members(process.pid):
        assert time.monotonic() < deadline, f"{folder}: processes {left} are left"
        time.sleep(0.02)
    return status


def _wait_or(process: Forked, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)


def record(folder: Path) -> dict[str, Any]:
    """All that must be equal: the checkpoints to the last bit, the numbers byte for byte, the rows, the name."""
    metrics = (folder / "metrics.json").read_text()
    checkpoints = {path.name for path in folder.glob("checkpoints/*.ckpt")} - {"previous.ckpt"}
    return {
        "name": OmegaConf.load(folder / ".hydra" / "config.yaml").name,
        "metrics.json": re.sub(r'"seconds": [0-9.]+', "", metrics),
        "metrics.csv": (folder / "metrics.csv").read_text(),
        **{name: _plain(_checkpoint(folder, name)) for name in sorted(checkpoints)},
        "images": {str(p.relative_to(folder)): p.read_bytes() for p in folder.glob("images/**/*.png")},
        "left over": [str(p) for p in folder.rglob("*.partial")],
    }


def _checkpoint(folder: Path, name: str) -> dict[str, Any]:
    checkpoint = torch.load(folder / "checkpoints" / name, weights_only=True)
    checkpoint["callbacks"].pop("Timer", None)  # how long it took
    return checkpoint


def _plain(value: Any) -> Any:
    """Bits for tensors, and paths without where the run lies, or lay when a checkpoint was written."""
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), value.numpy().tobytes())
    if isinstance(value, dict):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return re.sub(r"^/.*(?=/checkpoints(/|$))", "RUN", value) if isinstance(value, str) else repr(value)


def differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where two records differ."""
    if isinstance(expected, dict) and isinstance(found, dict):
        keys = {**expected, **found}
        missing = object()
        return [
            line
            for key in keys
            for line in differences(expected.get(key, missing), found.get(key, missing), f"{path}/{key}")
        ]
    return [] if expected == found else [f"{path}: {str(expected)[:150]} ≠ {str(found)[:150]}"]


class Torture:
    """Trials against uninterrupted runs, each of which is made once.

    Args:
        folder: where the runs go; those of trials that went well are deleted.
        seed: of what is drawn.
    """

    def __init__(self, folder: Path, seed: int = 0):
        self.folder, self.draw = folder.resolve(), random.Random(seed)
        self.references: dict[str, tuple[dict[str, Any], float]] = {}
        self.faults: Counter[str] = Counter()
        self.moves = 0
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)

    def reference(self, name: str, ranks: int) -> tuple[dict[str, Any], float]:
        """The record of an uninterrupted run, and its seconds."""
        key = f"{name}_{ranks}"
        if key not in self.references:
            started, folder = time.monotonic(), self.folder / key
            status = run_once(self.arguments(name, ranks), folder, None)
            assert status == 0, folder.with_suffix(".log").read_text()
            self.references[key] = record(folder), time.monotonic() - started
        return self.references[key]

    def arguments(self, name: str, ranks: int, begins: list[str] | None = None) -> list[str]:
        """The command line of a configuration, with something else in place of its end."""
        # A further override of the same key replaces the first.
        chosen = {
            a.partition("=")[0]: a
            for a in [*TINY, *CONFIGURATIONS[name], *(TWO_RANKS if ranks == 2 else []), *(begins or [])]
        }
        return list(chosen.values())

    def trial(self, number: int, name: str, ranks: int) -> list[str]:
        """Interrupt a run up to three times, perhaps move it, and finish it; how it differs from a whole one."""
        expected, seconds = self.reference(name, ranks)
        folder, arguments = self.folder / f"trial_{number}", self.arguments(name, ranks, BEGINS.get(name, []))
        ends = {a.partition("=")[0] for a in BEGINS.get(name, [])}
        more = [a for a in self.arguments(name, ranks) if a.partition("=")[0] in ends]
        planned = [draw_fault(self.draw, seconds, ranks) for _ in range(self.draw.randint(1, 3))]
        for fault in planned:
            if run_once(arguments, folder, fault, more) != 0:
                self.faults[f"{fault.name}, {ranks} rank{'s' * (ranks > 1)}"] += 1
            if self.draw.random() < 0.3 and folder.exists():
                folder = folder.rename(f"{folder}_moved")
                self.moves += 1
        status = run_once(arguments, folder, None, more)
        if more:
            # The last fault may have come after the end of what it began with.
            status = status or run_once(arguments, folder, None, more)
        found = [f"{name}: exit status {status}"] if status else differences(expected, record(folder))
        if not found:
            shutil.rmtree(folder)
            for each in self.folder.glob(f"trial_{number}*.log"):
                each.unlink()
        return [f"{folder.name} ({name}, {ranks} ranks, {', '.join(f.name for f in planned)}) {f}" for f in found]


def main(trials: int = 60, seed: int = 0, folder: str = "runs/torture") -> int:
    """Run the trials and print what came of them; the exit status."""
    preload()
    torture, wrong, started = Torture(Path(folder), seed), 0, time.monotonic()
    for number in range(trials):
        name = list(CONFIGURATIONS)[number % len(CONFIGURATIONS)]
        found = torture.trial(number, name, ranks=2 if number % 3 == 2 else 1)
        wrong += bool(found)
        print(
            "\n".join([f"{number + 1}/{trials} {name}: {'DIFFERENT' if found else 'equal'}", *found]), flush=True
        )
    for fault, count in sorted(torture.faults.items()):
        print(f"{count:5} {fault}")
    print(
        f"{trials} runs, interrupted {sum(torture.faults.values())} times, moved {torture.moves} times,"
        f" {wrong} different, in {time.monotonic() - started:.0f} s"
    )
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main(**{k: int(v) if v.isdigit() else v for k, _, v in (a.partition("=") for a in sys.argv[1:])}))
