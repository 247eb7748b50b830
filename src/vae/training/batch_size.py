"""`data.batch_size=auto`: the largest batch that fits into the GPU's memory, found by Lightning's search."""

import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy

from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.tuner.tuning import Tuner
from omegaconf import DictConfig

from vae.checks import ConfigError
from vae.data import ImageDataModule
from vae.training.build import build_module, build_trainer
from vae.training.meeting import apart
from vae.training.module import VAEModule

FIRST, STEPS = 16, 3
"""The number of images in a batch of the first trial, and the number of steps in a trial."""
LOGGERS = (
    "lightning.pytorch.tuner.batch_size_scaling",
    "lightning.pytorch.trainer.connectors.checkpoint_connector",
)


def largest_batch_size(config: DictConfig) -> int:
    """Return the largest batch size for a run's resolved config, whose `data.batch_size` is ignored.

    The trials have their own objects.

    Raises:
        ConfigError: there is no way to search. On the CPU, the system does not refuse a batch but ends the
            process. For several devices, Lightning has no search.
    """
    config = deepcopy(config)
    config.callback, config.logger, config.data.batch_size = {}, {}, FIRST
    # A graph is of one batch size, and a member of a stack would try with the others.
    config.compile = False
    with tempfile.TemporaryDirectory() as folder, apart():
        config.trainer.default_root_dir = folder
        trainer = build_trainer(config)
        if trainer.world_size > 1 or trainer.strategy.root_device.type == "cpu":
            raise ConfigError("data.batch_size=auto: must be a number unless one GPU trains")
        data = instantiate(config.data)
        return search(trainer, build_module(config, data, trainer), data)


def search(trainer: Trainer, module: VAEModule, data: ImageDataModule) -> int:
    """Return the largest number of images with which a few training steps do not run out of memory.

    It is one of 16, 32, 64, …, or the number of all training images.
    """
    with _quiet():
        # With its own limit, Lightning would return that limit without having tried it.
        found = Tuner(trainer).scale_batch_size(
            module, datamodule=data, init_val=FIRST, steps_per_trial=STEPS, max_val=2**62
        )
    assert found is not None
    return min(found, len(data.subsets["train"]))


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in LOGGERS]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
