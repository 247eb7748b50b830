"""Memory on the CPU. Operations are slow if each of them must ask the system for memory."""

import torch


def keep_freed_memory() -> None:
    """Make glibc's malloc keep the memory of freed tensors for the next tensors.

    By default, malloc returns freed memory to the system if the tensor is at least as large as the largest one
    that it has seen. On a CPU, every operation on megabytes then asks for its pages again, which was measured to
    take as long as the operation itself. malloc learns this size from what is freed. Here it frees 31 MiB that are
    never used.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
