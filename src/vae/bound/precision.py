"""Densities are computed in float32 at least, whatever the networks run in."""

from contextlib import AbstractContextManager, nullcontext

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """float16 and bfloat16 as float32; float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def no_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Where matrix products are not rounded to bfloat16 either, as those in a density of z would be."""
    if torch.is_autocast_enabled(device.type):
        return torch.autocast(device.type, enabled=False)
    return nullcontext()
