"""Densities are computed in float32 at least, whatever the networks run in."""

import torch
from jaxtyping import Float
from torch import Tensor


def full_precision(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """float16 and bfloat16 as float32; float32 and float64 as they are."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
