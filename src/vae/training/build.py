"""From a composed config to the objects of a run."""

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import torch
from hydra.utils import instantiate
from lightning import Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ProgressBar
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError, check_bool, check_int, check_memory
from vae.command.ranks import EndTogether
from vae.data import ImageDataModule
from vae.metric.evaluated_batch import Sizes
from vae.model import LatentModel
from vae.objective.objective import Objective
from vae.run.checkpoint import SealedCheckpoints
from vae.training.combination import check_combination
from vae.training.execution import Execution, compile_mode
from vae.training.initialization import initialize
from vae.training.module import VAEModule

ORDINARY = 2048
"""The largest whole number of a model's config up to which nobody need ask whether there is memory for it."""


def build_model(config: DictConfig, image_shape: tuple[int, int, int]) -> LatentModel:
    """The model of a config, with its weights drawn from the default generator."""
    model = LatentModel(
        image_shape=image_shape,
        latent_size=config.latent_size,
        encoder=instantiate(config.network.encoder),
        decoder=instantiate(config.network.decoder),
        posterior=instantiate(config.posterior),
        prior=instantiate(config.prior),
        likelihood=instantiate(config.likelihood),
    )
    initialize(model, config.init)
    if getattr(model.likelihood, "decodes_spread", False):
        model.start_from_mean(torch.zeros(image_shape))  # for the spread's own start; the mean's may follow
    model.starts_from_mean = check_bool("start_from_mean", config.start_from_mean)
    return model


def build_module(config: DictConfig, data: ImageDataModule) -> VAEModule:
    """The model, its objective, metrics and optimiser.

    Raises:
        ConfigError: parts that cannot work together.
    """
    _check_size(config, data.image_shape)
    if (fused := config.optimizer.get("fused")) is not None:
        # torch takes anything that is not nothing for yes.
        check_bool("optimizer.fused", fused)
    model = build_model(config, data.image_shape)
    objective = instantiate(config.objective)
    check_combination(model, objective, data.values)
    # A set that is smaller than its batch is one batch, and how large it is has not been read yet.
    _check_step(objective, min(data.batch_size, 1000), model.likelihood.param_shape)
    sizes = sizes_of(model, data)
    return VAEModule(
        model=model,
        objective=objective,
        corruption=instantiate(config.corruption),
        # Their arguments are in the checkpoint, which must not need the classes of a config to be read.
        optimizer=instantiate(config.optimizer, _convert_="all"),
        scheduler=instantiate(config.scheduler, _convert_="all") or None,
        val_metrics={name: metric(sizes) for name, metric in instantiate(config.metric.val).items()},
        test_metrics={name: metric(sizes) for name, metric in instantiate(config.metric.test).items()},
        execution=Execution(
            steps_at_once=config.steps_at_once,
            compile_mode=compile_mode(config.compile),
            recompute_decoder=check_bool("recompute_decoder", config.recompute_decoder),
        ),
    )


def _check_size(config: DictConfig, image_shape: tuple[int, int, int]) -> None:
    """Refuse a model that is too large for the memory, before any of it is made."""
    parts = [OmegaConf.to_container(config[part], resolve=True) for part in ("network", "posterior", "prior")]
    if max(_whole_numbers([config.latent_size, *parts])) <= ORDINARY:
        return
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build_model(config, image_shape).parameters())
    # Weights, gradients and the two averages of Adam.
    check_memory(
        f"latent_size={config.latent_size}, network=…: a model of {parameters:.3g} weights", 16 * parameters
    )


def _whole_numbers(node: Any) -> Iterator[int]:
    """All whole numbers in nested containers, and 0."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    yield node if isinstance(node, int) else 0
    for child in children:
        yield from _whole_numbers(child)


def _check_step(objective: Objective, batch_size: int, param_shape: Sequence[int]) -> None:
    """Refuse a step whose decoder's output alone is too large for the memory."""
    draws = min(objective.draws, objective.chunk or objective.draws)
    images = f"{draws:,} decoded draws of each image of a batch"
    check_memory(f"objective.k, objective.chunk: {images}", 4 * draws * batch_size * prod(param_shape))


def sizes_of(model: LatentModel, data: ImageDataModule) -> Sizes:
    """What the metrics of this model on these images must know."""
    return Sizes(
        image_shape=data.image_shape,
        latent_size=model.latent_size,
        discrete=data.values == model.likelihood.support,
        data_name=data_name(data),
        has_density=getattr(model.posterior, "has_density", True),
    )


def data_name(data: ImageDataModule) -> str:
    """What the images are, as in `data=…`: mnist, fashion_mnist, celeba, …"""
    name = getattr(data, "set_name", type(data).__name__)
    return re.sub("(?<=[a-z])(?=[A-Z]{2})", "_", name).lower()


def build_trainer(config: DictConfig) -> Trainer:
    """Lightning's Trainer with the callbacks and loggers of the config.

    Raises:
        ConfigError: the trainer refuses its options, as when more devices are asked for than there are.
    """
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    for key, minimum in (("max_epochs", -1), ("max_steps", -1), ("log_every_n_steps", 1)):
        check_int(f"trainer.{key}", config.trainer[key], minimum)
    _check_clipping(config)
    _check_best(config)
    callbacks = present(_last_to_the_end(instantiate(config.callback, _convert_="all")))
    loggers = present(instantiate(config.logger))
    has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    try:
        trainer = instantiate(config.trainer, callbacks=callbacks, logger=loggers, enable_progress_bar=has_bar)
    except Exception as error:
        cause = error.__cause__ or error
        if isinstance(cause, MisconfigurationException | TypeError | ValueError):
            raise ConfigError(f"trainer: {' '.join(str(cause).split())}") from error
        raise
    trainer.strategy.checkpoint_io = SealedCheckpoints()
    # Lightning's handler of SIGTERM (2.6) broadcasts from wherever it interrupts; ours ends the run.
    trainer._signal_connector.register_signal_handlers = lambda: None
    if trainer.world_size > 1:
        trainer.callbacks.insert(0, EndTogether())
    return trainer


def _check_clipping(config: DictConfig) -> None:
    """Lightning does not clip gradients for an optimiser that may unscale them itself, as fused ones may."""
    clips, mixed = config.trainer.gradient_clip_val, "mixed" in str(config.trainer.precision)
    if clips and mixed and config.optimizer.get("fused"):
        raise ConfigError(
            f"trainer.gradient_clip_val={clips}: with trainer.precision={config.trainer.precision} it needs"
            " optimizer.fused=false"
        )


def _check_best(config: DictConfig) -> None:
    """best.ckpt is one file, which each of several best would overwrite, the last of them for good."""
    kept = OmegaConf.select(config, "callback.best.save_top_k", default=1)
    if kept != 1:
        raise ConfigError(
            f"callback.best.save_top_k={kept}: must be 1; callback=top has callback.top.save_top_k for it"
        )


def _last_to_the_end(callbacks: dict[str, Any]) -> dict[str, Any]:
    """Let last.ckpt be written after every other callback, so that it holds their state after the same epoch."""
    return {name: callbacks[name] for name in sorted(callbacks, key=lambda name: name == "last")}


def hide_unused_gpus(trainer: Trainer) -> None:
    """Of a run on the CPU, tell CUDA that there is no device.

    torch (2.15) asks in every optimiser step whether there is a GPU, for which it loads NVIDIA's management
    library anew: a third of a millisecond on a machine without one, unless none is visible.
    """
    if isinstance(trainer.accelerator, CPUAccelerator):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def present(group: Mapping[str, Any]) -> list[Any]:
    """The members of a group that are not switched off with null."""
    return [member for member in group.values() if member is not None]


def finish_loggers(trainer: Trainer) -> None:
    """Save what the loggers hold and end this run's W&B run, so that the next job starts one of its own."""
    for logger in trainer.loggers:
        logger.save()
    if "wandb" in sys.modules and trainer.is_global_zero:
        sys.modules["wandb"].finish()
