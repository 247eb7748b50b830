"""From a composed config to the objects of a run."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class, instantiate
from lightning import Trainer
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint, ProgressBar
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError, check_bool, check_choice, check_int, check_memory, written
from vae.command.distributed import Started, is_child, started, what_to_type
from vae.command.ranks import EndTogether, NoticeLostHosts
from vae.data import ImageDataModule
from vae.internals import resume_between_epochs
from vae.logger.run_logger import RunLogger
from vae.metric.evaluated_batch import Sizes
from vae.model import LatentModel
from vae.objective.objective import Objective
from vae.run.checkpoint import SealedCheckpoints, copy_checkpoint
from vae.run.directory import RunDirectory
from vae.training.combination import check_combination
from vae.training.execution import CUDA_GRAPH, Execution, ScaledGradients, compile_mode, set_network_type
from vae.training.fit_prior import keep_all_but_prior
from vae.training.initialization import initialize, where_to_start
from vae.training.meeting import Alone, Stacked, current_meeting
from vae.training.module import VAEModule
from vae.training.stack import CAPTURED, obstacle
from vae.training.steps_at_once import StepsAtOnce, obstacles, steps_at_once

ORDINARY = 2048
"""The largest whole number of a model's config up to which nobody need ask whether there is memory for it."""


BROUGHT = (
    ("network", "latent_size", "likelihood", "likelihood.sigma"),
    ("data.batch_size", "data.train_images", "trainer.max_epochs"),
)
"""Keys whose defaults a set of images brings (conf/for_data)."""


def brought(config: DictConfig, choices: Mapping[str, Any], typed: Sequence[str]) -> str:
    """Return one line: what the choice of data has chosen beside the images, apart from what the user typed.

    Args:
        config: a composed config.
        choices: the option chosen of each group, as Hydra has them.
        typed: the overrides.
    """
    keys = {override.lstrip("+~").partition("=")[0] for override in typed}
    values = {key: choices.get(key, OmegaConf.select(config, key)) for group in BROUGHT for key in group}
    pairs = [f"{key}={value}" for key, value in values.items() if value is not None and key not in keys]
    return f"data={choices['data']} and budget={config.budget} bring {', '.join(pairs)}"


def build_model(config: DictConfig, image_shape: tuple[int, int, int]) -> LatentModel:
    """Return the model of a config, with its weights drawn from the default generator."""
    model = _assembled(config, image_shape)
    initialize(model, config.init)
    return model


def _assembled(config: DictConfig, image_shape: tuple[int, int, int]) -> LatentModel:
    return LatentModel(
        image_shape=image_shape,
        latent_size=config.latent_size,
        encoder=instantiate(config.network.encoder),
        decoder=instantiate(config.network.decoder),
        posterior=instantiate(config.posterior),
        prior=instantiate(config.prior),
        likelihood=instantiate(config.likelihood),
    )


def build_module(config: DictConfig, data: ImageDataModule, trainer: Trainer | None = None) -> VAEModule:
    """Return the model, its objective, metrics and optimiser.

    Args:
        config: a composed config.
        data: the images; they are told to come in groups where several steps are taken at once.
        trainer: that will train the module; None for one that only evaluates.

    Raises:
        ConfigError: parts that cannot work together.
    """
    _check_size(config, data.image_shape)
    if (fused := config.optimizer.get("fused")) is not None:
        # torch takes anything that is not nothing for yes.
        check_bool("optimizer.fused", fused)
    _check_optimizer(config)
    model = build_model(config, data.image_shape)
    objective = instantiate(config.objective)
    # A set that is smaller than its batch is one batch, and how large it is has not been read yet.
    _check_step(objective, min(data.batch_size, 1000), model)
    fits_prior = config.fit_prior_to is not None
    if fits_prior:
        keep_all_but_prior(model)
    check_combination(model, objective, data.values, fits_prior)
    set_network_type(model, str(config.trainer.precision))
    sizes = sizes_of(model, data)
    skips = check_choice("on_nan", config.on_nan, ("stop", "skip")) == "skip"
    module_class, clip = _module_class(config, model, objective, data, trainer) if trainer else VAEModule, None
    if isinstance(module_class, partial):
        # Lightning takes 0 for no clipping.
        clip, trainer.gradient_clip_val = trainer.gradient_clip_val or None, None  # type: ignore[union-attr]
    return module_class(
        model=model,
        objective=objective,
        corruption=instantiate(config.corruption),
        # Their arguments are in the checkpoint, which must not need the classes of a config to be read.
        optimizer=instantiate(config.optimizer, _convert_="all"),
        scheduler=instantiate(config.scheduler, _convert_="all") or None,
        val_metrics={name: metric(sizes) for name, metric in instantiate(config.metric.val).items() if metric},
        test_metrics={name: metric(sizes) for name, metric in instantiate(config.metric.test).items() if metric},
        execution=Execution(
            compile_mode=compile_mode(config.compile),
            recompute_decoder=check_bool("recompute_decoder", config.recompute_decoder),
        ),
        start_from_mean=where_to_start(config.start_from_mean, model),
        skip_limit=check_int("on_nan_limit", config.on_nan_limit, minimum=0) if skips else None,
        clip=clip,
    )


def _module_class(
    config: DictConfig, model: LatentModel, objective: Objective, data: ImageDataModule, trainer: Trainer
) -> Callable[..., VAEModule]:
    """Return how the steps are taken: one by one, several at once, together with a stack's other members, or
    as a graph.

    Raises:
        ConfigError: they are to be a CUDA graph and cannot.
    """
    meeting, mode = current_meeting(), compile_mode(config.compile)
    graph, compiled = mode == CUDA_GRAPH, meeting is not None and mode is not None
    if meeting is not None or graph:
        why = obstacle(model, objective, compiled) or next(_obstacles(config, trainer, graph), None)
        if graph and trainer.strategy.root_device.type != "cuda":
            raise ConfigError(f"compile.mode={CUDA_GRAPH}: needs a GPU")
        if why is None:
            data.steps_at_once = steps_at_once(trainer, config.steps_at_once, data.batch_pixels, clipped=True)
            return partial(Stacked, meeting or Alone())
        if graph:
            raise ConfigError(f"compile.mode={CUDA_GRAPH}: cannot be, as {why}")
        print(f"hydra/launcher=stacked: this job is trained by itself: {why}")
    data.steps_at_once = steps_at_once(trainer, config.steps_at_once, data.batch_pixels)
    return VAEModule if data.steps_at_once == 1 else StepsAtOnce


def _obstacles(config: DictConfig, trainer: Trainer, graph: bool) -> Iterator[str]:
    """Yield what in a run's options keeps its steps from being taken with others', or as a CUDA graph."""
    yield from obstacles(trainer, clipped=True)
    if config.fit_prior_to is not None:
        yield "fit_prior_to trains the prior alone"
    if config.on_nan == "skip":
        yield "on_nan=skip looks at each step"
    if trainer.gradient_clip_val and trainer.gradient_clip_algorithm == "value":
        yield "trainer.gradient_clip_algorithm=value clips numbers, and not a run's gradient"
    if graph and get_class(config.optimizer._target_) not in CAPTURED:
        yield f"optimizer={config.optimizer._target_} counts its steps on the CPU"


def _check_size(config: DictConfig, image_shape: tuple[int, int, int]) -> None:
    """Refuse a model that is too large for the memory, before any of it is made."""
    parts = [OmegaConf.to_container(config[part], resolve=True) for part in ("network", "posterior", "prior")]
    if max(_whole_numbers([config.latent_size, *parts])) <= ORDINARY:
        return
    try:
        with torch.device("meta"):
            parameters = sum(p.numel() for p in _assembled(config, image_shape).parameters())
    except (NotImplementedError, RuntimeError, TypeError):
        return  # parts that look at values while they are made, as zuko's flows do; what else is wrong comes again
    # Weights, gradients and the two averages of Adam.
    check_memory(
        f"latent_size={config.latent_size}, network=…: a model of {parameters:.3g} weights", 16 * parameters
    )


def _whole_numbers(node: Any) -> Iterator[int]:
    """Yield all whole numbers in nested containers, and 0."""
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    yield node if isinstance(node, int) else 0
    for child in children:
        yield from _whole_numbers(child)


def _check_step(objective: Objective, batch_size: int, model: LatentModel) -> None:
    """Refuse a step whose draws, or whose decoder's output with its gradient, are too large for the memory."""
    together = min(objective.draws, objective.chunk or objective.draws)
    numbers = objective.draws * model.latent_size + 2 * together * prod(model.likelihood.param_shape)
    check_memory(
        f"objective.k={objective.draws}, objective.chunk={written(objective.chunk)}: must be fewer draws, or fewer"
        f" at a time (objective.chunk), as {together:,} decoded draws of each image of a batch",
        4 * batch_size * numbers,
    )


def sizes_of(model: LatentModel, data: ImageDataModule) -> Sizes:
    """Return what the metrics of this model on these images must know."""
    return Sizes(
        image_shape=data.image_shape,
        latent_size=model.latent_size,
        discrete=data.values == model.likelihood.support,
        data_name=data_name(data),
        has_density=model.posterior.has_density,
        codes=model.posterior.codes.classes if model.posterior.codes else 0,
        deterministic=model.posterior.deterministic,
    )


def data_name(data: ImageDataModule) -> str:
    """Return what the images are, as in `data=…`: mnist, fashion_mnist, celeba, …"""
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
    _check_checkpoints(config)
    options = _precision(config)
    there = started()
    if there is None:
        # Otherwise any SLURM job, such as one process that asks for two GPUs, would be taken for ranks of srun's.
        options["plugins"] = [*options.get("plugins", []), LightningEnvironment()]
    _check_strategy(config)
    callbacks = present(_last_to_the_end(instantiate(config.callback, _convert_="all")))
    loggers = present(instantiate(config.logger))
    has_bar = any(isinstance(callback, ProgressBar) for callback in callbacks)
    try:
        trainer = instantiate(
            config.trainer,
            callbacks=callbacks,
            logger=loggers,
            enable_progress_bar=has_bar,
            **options,
            _convert_="all",  # max_time may be a dictionary
        )
    except Exception as error:
        cause = error.__cause__ or error
        if there and "match" in str(cause):
            raise _wrong_number(there, config) from error
        if isinstance(cause, MisconfigurationException | TypeError | ValueError):
            raise ConfigError(
                f"{_named(config, 'trainer', str(cause))}: {' '.join(str(cause).split())}"
            ) from error
        raise
    if there and there.processes != trainer.num_devices * trainer.num_nodes:
        raise _wrong_number(there, config)
    most = max(8, os.cpu_count() or 1)
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > most:
        raise ConfigError(
            f"trainer.devices={config.trainer.devices}: must be at most {most} processes on this CPU"
        )
    trainer.strategy.checkpoint_io = SealedCheckpoints()
    resume_between_epochs(trainer)
    # Lightning's handler of SIGTERM (2.6) broadcasts from wherever it interrupts; ours ends the run.
    trainer._signal_connector.register_signal_handlers = lambda: None
    if trainer.world_size > 1:
        trainer.callbacks.insert(0, EndTogether())
    if trainer.num_nodes > 1:
        trainer.callbacks.insert(0, NoticeLostHosts())
    return trainer


def _named(config: DictConfig, group: str, message: str) -> str:
    """Return the keys of a group that a library's message names, with their values; all of them if it names
    none.
    """
    values = {key: value for key, value in config[group].items() if not str(key).startswith("_")}
    found = {key: value for key, value in values.items() if re.search(rf"(?i)\b{key}\b", message)}
    return ", ".join(f"{group}.{key}={written(value)}" for key, value in (found or values).items()) or group


def _check_optimizer(config: DictConfig) -> None:
    """Make the optimiser and the schedule of a single number, to learn what they refuse.

    Raises:
        ConfigError: numbers that do not go together, in the library's words behind the keys and their values.
    """
    make_optimizer = instantiate(config.optimizer, _convert_="all")
    make_schedule = instantiate(config.scheduler, _convert_="all")
    group = "optimizer"
    try:
        optimizer = make_optimizer([torch.nn.Parameter(torch.zeros(1))])
        group = "scheduler"
        if make_schedule:
            make_schedule(optimizer)
    except (TypeError, ValueError) as error:
        message = " ".join(str(error).split())
        raise ConfigError(f"{_named(config, group, message)}: {message}") from error


def _check_strategy(config: DictConfig) -> None:
    """Refuse what splits a model over devices: checkpoints, averages and evaluation take it to be whole on each.

    Raises:
        ConfigError: another strategy, or several nodes whose ranks nobody has started.
    """
    strategy, nodes = config.trainer.strategy, config.trainer.get("num_nodes", 1)
    if isinstance(strategy, str) and strategy != "auto" and not strategy.startswith("ddp"):
        raise ConfigError(
            f"trainer.strategy={strategy}: must be auto or ddp; FSDP and DeepSpeed are for models that do not fit "
            "on one device (docs/sweeps.md)"
        )
    if nodes > 1 and started() is None and not is_child():
        raise ConfigError(
            f"trainer.num_nodes={nodes}: start the ranks on each node with torchrun, or all of them with srun "
            "(docs/sweeps.md)"
        )


def _wrong_number(there: Started, config: DictConfig) -> ConfigError:
    """For processes that somebody has started, and that are not as many as the trainer is to have."""
    return ConfigError(
        f"trainer.devices={config.trainer.devices}: {there.by} has started {there.processes} processes on "
        f"{there.nodes} node{'s' if there.nodes > 1 else ''}; type {what_to_type(there)}"
    )


def _precision(config: DictConfig) -> dict[str, Any]:
    """Lightning's options of a precision: its own would run densities, too, in less than float32.

    Raises:
        ConfigError: float16 without a GPU, or with what Lightning does not clip: an optimiser that may unscale
            gradients itself, as fused ones may.
    """
    if config.trainer.precision != "16-mixed":
        return {"precision": "32-true"}
    if not torch.cuda.is_available():
        raise ConfigError("trainer.precision=16-mixed: needs a GPU; bf16-mixed does not")
    clips = config.trainer.gradient_clip_val
    if clips and config.optimizer.get("fused"):
        raise ConfigError(
            f"trainer.gradient_clip_val={clips}: with trainer.precision=16-mixed it needs optimizer.fused=false"
        )
    return {"precision": None, "plugins": [ScaledGradients()]}


def _check_checkpoints(config: DictConfig) -> None:
    """Refuse what best.ckpt, one file, and last.ckpt, from which a run is resumed, cannot be.

    Raises:
        ConfigError: several best, of which each would overwrite the one before; or a last one of within an epoch.
    """
    kept = OmegaConf.select(config, "callback.best.save_top_k", default=1)
    if kept != 1:
        raise ConfigError(
            f"callback.best.save_top_k={kept}: must be 1; callback=top has callback.top.save_top_k for it"
        )
    for key in ("every_n_train_steps", "train_time_interval"):
        interval = OmegaConf.select(config, f"callback.last.{key}")
        if interval:
            raise ConfigError(
                f"callback.last.{key}={interval}: must be null, as a run is resumed exactly from the end of an"
                " epoch only; a callback of another name and filename may save within epochs"
            )


def _last_to_the_end(callbacks: dict[str, Any]) -> dict[str, Any]:
    """Let last.ckpt be written after every other callback, so that it holds their state after the same epoch."""
    return {name: callbacks[name] for name in sorted(callbacks, key=lambda name: name == "last")}


def explained(config: DictConfig, trainer: Trainer, error: Exception) -> Exception:
    """Return the line for a library's error of which the keys are known; any other error as it is.

    These are a monitored number that there is none of, and memory that does not suffice.
    """
    text = " ".join(str(error).split())
    if isinstance(error, RuntimeError) and re.search("can't allocate memory|out of memory", text):
        return ConfigError(
            f"objective.k={config.objective.k}, data.batch_size={config.data.batch_size}: must be smaller, or"
            f" objective.chunk={written(config.objective.get('chunk'))} a number of draws at a time: there is not"
            f" enough memory ({text[:200]})"
        )
    monitors = {"monitor.metric": config.monitor.metric}
    monitors |= {f"callback.{key}.monitor": each.get("monitor") for key, each in config.callback.items() if each}
    there = sorted(name for name in trainer.callback_metrics if "/" in name)
    for key, name in monitors.items():
        if "monitor" in text and name not in there and repr(name) in text:
            return ConfigError(f"{key}={name}: must be one of {', '.join(there)}")
    return error


def best_checkpoint(trainer: Trainer, run: RunDirectory) -> Path | None:
    """Return the checkpoint whose numbers are the run's: the best by what the callback `best` monitors.

    Where it has seen no validation, that is the last one, which becomes best.ckpt; None where none was written.
    """
    kept = [c for c in trainer.callbacks if isinstance(c, ModelCheckpoint) and c.filename == "best"]  # type: ignore[attr-defined]
    if kept and kept[0].best_model_path:
        return Path(kept[0].best_model_path)
    last = run.path / "checkpoints" / "last.ckpt"
    if trainer.is_global_zero and last.is_file():
        copy_checkpoint(last, "best.ckpt")
    trainer.strategy.barrier()
    return last.with_name("best.ckpt") if last.is_file() else None


def hide_unused_gpus(trainer: Trainer) -> None:
    """Tell CUDA that there is no device, if the run is on the CPU.

    torch (2.15) asks in every optimiser step whether there is a GPU, for which it loads NVIDIA's management
    library anew: a third of a millisecond on a machine without one, unless none is visible.
    """
    if isinstance(trainer.accelerator, CPUAccelerator):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def present(group: Mapping[str, Any]) -> list[Any]:
    """Return the members of a group that are not switched off with null."""
    return [member for member in group.values() if member is not None]


def finish_loggers(trainer: Trainer) -> None:
    """Save what the loggers hold and end this run in each, so that the next job starts one of its own."""
    for logger in trainer.loggers:
        logger.save()
        if isinstance(logger, RunLogger) and trainer.is_global_zero:
            logger.finish()
