"""Memory on the CPU, which is slow where the system must be asked for it at every operation."""

import torch


def keep_freed_memory() -> None:
    """Have glibc's malloc keep the memory of tensors that are freed, for the next ones.

    It gives back to the system what is freed of the largest tensor that it knows and more, so that on a CPU
    every operation on megabytes asks for its pages anew, which was measured to take as long as the operation.
    How large that is it learns from what is freed: here of 31 MiB that are never touched.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
