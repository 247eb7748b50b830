"""The cost of a model: size, work, speed and memory."""

import resource
import sys
import time
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vae.callback.model_summary import flops
from vae.model import LatentModel

SECONDS = 0.5
"""The number of seconds for which the speed is measured."""


@dataclass(frozen=True)
class Cost:
    """The cost of a model.

    Attributes:
        parameters: the count of trained numbers.
        flops_per_image: FLOPs of one reconstruction, see `vae.callback.model_summary.flops`.
        images_per_second: images reconstructed per second on `device`, in batches.
        peak_memory_mib: of the device, or of the whole process if the device is the CPU.
        device: the device on which the cost was measured.
    """

    parameters: int
    flops_per_image: int
    images_per_second: float
    peak_memory_mib: float
    device: str


@torch.no_grad()
def measure_cost(model: LatentModel, x: Float[Tensor, "B C H W"]) -> Cost:
    """Measure the cost with images x, which are on the model's device."""
    return Cost(
        parameters=sum(p.numel() for p in model.parameters() if p.requires_grad),
        flops_per_image=flops(model),
        images_per_second=round(_speed(model, x), 1),
        peak_memory_mib=round(_peak_memory(x.device), 1),
        device=f"{x.device.type}, {torch.get_num_threads()} threads" if x.device.type == "cpu" else str(x.device),
    )


def _speed(model: LatentModel, x: Float[Tensor, "B C H W"]) -> float:
    """Return the number of images reconstructed per second, after one reconstruction that is not counted."""
    label = x.new_zeros(len(x), dtype=torch.int64)
    model.reconstruct(x, label)
    images, started = 0, _now(x.device)
    while _now(x.device) - started < SECONDS:
        model.reconstruct(x, label)
        images += len(x)
    return images / (_now(x.device) - started)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    # The value is in KiB, but in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
