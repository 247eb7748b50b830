"""Memory between the jobs that one process runs one after the other."""

import gc
import sys

from vae.training.collection import exempt_what_is_alive

_after_a_job = False


def give_back_memory() -> None:
    """Free what a job that has ended left behind; the images stay, for the next job.

    Looking through every object of torch, Lightning and W&B takes a third of a second. What is alive after the
    first job, those libraries above all, is therefore exempt from the search after each later job.
    """
    global _after_a_job
    gc.collect()
    if not _after_a_job:
        exempt_what_is_alive()
        _after_a_job = True
    _empty_gpu_caches()


def _empty_gpu_caches() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def give_back_everything() -> None:
    """Free the images, too: there are no more jobs in this process."""
    global _after_a_job
    # Not imported here: a sweep whose jobs are in other processes has no images, and no need of torch.
    if memory := sys.modules.get("vae.data.shared_images"):
        memory.forget_images()
    gc.unfreeze()
    _after_a_job = False
    gc.collect()
    _empty_gpu_caches()
