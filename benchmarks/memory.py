"""python -m benchmarks.memory [CASE]: the memory of a training step, in two measures.

`allocated` is the largest sum of living tensors and temporaries that torch's profiler sees within one step
(forward pass, loss, gradients). It is exact, and excludes weights, optimiser and images, which exist before the
step. `process` is the peak memory of a process that takes a few such steps with Adam, including all libraries.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from benchmarks.bare import framework_loss, trained
from benchmarks.workload import BURDA, CONV, composed_step
from vae.bound.importance import keep_freed_memory

CASES = {
    "burda_iwae_5": ((*BURDA, "objective=iwae", "objective.k=5"), 100),
    "burda_iwae_50": ((*BURDA, "objective=iwae", "objective.k=50"), 100),
    "burda_iwae_50, objective.chunk=5": ((*BURDA, "objective=iwae", "objective.k=50", "objective.chunk=5"), 100),
    "conv_iwae_4": ((*CONV, "objective=iwae", "objective.k=4"), 8),
    "conv_iwae_32": ((*CONV, "objective=iwae", "objective.k=32"), 8),
    "conv_iwae_32, objective.chunk=4": ((*CONV, "objective=iwae", "objective.k=32", "objective.chunk=4"), 8),
    "conv_64": (CONV, 64),
    "conv_64, recompute_decoder": ((*CONV, "recompute_decoder=true"), 64),
}
"""The overrides of each case, and the number of images in a step."""
STEPS = 5


def peak_mebibytes(overrides: tuple[str, ...], x: Tensor) -> float:
    """Return the peak of what a step on the images x allocates, in MiB."""
    config = composed_step(*overrides)
    torch.manual_seed(0)
    loss = framework_loss(config, x.shape[1:])[1]
    loss(x).backward()  # allocate what is made only once: gradients, buffers of libraries
    return allocated_mebibytes(lambda: loss(x).backward())


def allocated_mebibytes(step: Callable[[], object]) -> float:
    """Return the peak of what a step allocates, in MiB."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        step()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace.json")
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text(encoding="utf-8"))["traceEvents"]
    totals = [event["args"]["Total Allocated"] for event in events if event.get("name") == "[memory]"]
    return max(totals) / 2**20


def images(case: str) -> Tensor:
    """Return random images for one step."""
    shape = (1, 28, 28) if case.startswith("burda") else (3, 64, 64)
    return torch.rand(CASES[case][1], *shape)


def process_peak(case: str) -> float:
    """Return the peak of this process after a few steps, in MiB."""
    torch.set_num_threads(1)
    config, x = composed_step(*CASES[case][0]), images(case)
    model, loss = framework_loss(config, x.shape[1:])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)
    keep_freed_memory()
    trained(loss, optimizer, [x] * STEPS)
    # On Linux, getrusage starts with the peak of the parent process.
    peak = next(
        line
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith("VmHWM")
    )
    return int(peak.split()[1]) / 2**10


def process_peak_elsewhere(case: str) -> float:
    """Return the peak of a new process that takes these steps, in MiB."""
    command = [sys.executable, "-m", "benchmarks.memory", case]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure() -> dict[str, dict[str, float]]:
    """Return the MiB of each case, by measure."""
    return {
        "allocated": {case: peak_mebibytes(overrides, images(case)) for case, (overrides, _) in CASES.items()},
        "process": {case: process_peak_elsewhere(case) for case in CASES},
    }


if __name__ == "__main__":
    print(process_peak(sys.argv[1]) if sys.argv[1:] else json.dumps(measure(), indent=2))
