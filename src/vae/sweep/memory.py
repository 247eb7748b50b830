"""Memory between the jobs that one process runs one after the other."""

import atexit
import gc
import sys


def give_back_memory() -> None:
    """Free what a job that has ended left behind; the images stay, for the next job.

    Looking through every object of torch, Lightning and W&B takes a third of a second. What is alive after the
    first job, those libraries above all, is therefore exempt from the search after each later job.
    """
    gc.collect()
    if gc.get_freeze_count() == 0:
        gc.freeze()
        # The interpreter's own search at its end should find them.
        atexit.register(gc.unfreeze)
    _empty_gpu_caches()


def _empty_gpu_caches() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def give_back_everything() -> None:
    """Free the images, too: there are no more jobs in this process."""
    # Not imported here: a sweep whose jobs are in other processes has no images, and no need of torch.
    if memory := sys.modules.get("vae.data.memory"):
        memory.forget_images()
    gc.unfreeze()
    gc.collect()
    _empty_gpu_caches()
