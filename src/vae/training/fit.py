"""One training, from the config to the final numbers."""

import time
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from hydra.utils import instantiate
from lightning import Trainer, seed_everything
from lightning.fabric.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig

from vae.command.command import typed_command
from vae.command.distributed import SAVED, children_run_this_config, is_child, tell_further_ranks
from vae.command.override import folder_arguments
from vae.data.shared_images import share_images
from vae.page.run_page import keep_run_page
from vae.page.verdict import closing_lines
from vae.run.directory import RunDirectory
from vae.run.origin import changes, origin
from vae.run.resume import Continuation, tidy
from vae.run.trust import remember_folders, typed_folders
from vae.training.batch_size import largest_batch_size
from vae.training.build import (
    best_checkpoint,
    brought,
    build_module,
    build_trainer,
    explained,
    finish_loggers,
    hide_unused_gpus,
)
from vae.training.execution import set_matmul_precision
from vae.training.fit_prior import load_parts
from vae.training.meeting import current_meeting
from vae.training.module import VAEModule
from vae.training.threads import threads_for, use_threads


def fit(config: DictConfig, begun: Continuation, typed_at: float, is_new: bool) -> dict[str, float]:
    """Build what the config describes, train it, evaluate the best checkpoint, and write what the run leaves.

    Args:
        config: resolved. Keys that are `auto` become what was chosen.
        begun: what the run's folder holds.
        typed_at: when the command was, by `time.monotonic`.
        is_new: whether this command's arguments are the run's.

    Returns:
        The numbers of metrics.json.
    """
    started = time.monotonic()
    run = begun.run
    if is_new and not begun.replaces:
        note_command(run, config)
    if config.data.batch_size == "auto":
        config.data.batch_size = largest_batch_size(config)
    seed_everything(config.seed, verbose=False)
    set_matmul_precision(config.matmul_precision)
    data = instantiate(config.data)
    share_images(data, config.data)
    data.note = run.keep_images
    trainer = build_trainer(config)
    module = build_module(config, data, trainer)
    threads = threads_for(config.threads, module, trainer, data.batch_size)
    chosen = choose(config, module, threads)
    checkpoint = begun.checkpoint
    if not is_child():
        checkpoint = begun.take_up()
        if is_new and begun.replaces:
            note_command(run, config)
        run.write_config(config)
        tell_further_ranks(run.path)
        announce(config, chosen)
    if config.fit_prior_to is not None and checkpoint is None:
        load_parts(module.model, config.fit_prior_to)
    with children_run_this_config(run), use_threads(threads):
        hide_unused_gpus(trainer)
        if trainer.is_global_zero:
            run.write_origin(origin(trainer, typed_command()), changes())
        logged: dict[str, Any] = dict(config)
        logged["command"] = typed_command()
        try:
            for logger in trainer.loggers:
                logger.log_hyperparams(logged)
            trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
            best = best_checkpoint(trainer, run)
            trainer.validate(module, data, ckpt_path=best, weights_only=True, verbose=False)
            trainer.test(module, data, verbose=False)
        except (MisconfigurationException, RuntimeError) as error:
            if (plain := explained(config, trainer, error)) is error:
                raise
            raise plain from error
        finally:
            finish_loggers(trainer)
    metrics = final_numbers(module, trainer, time.monotonic() - started)
    if trainer.is_global_zero:
        run.write_metrics(metrics)
        tidy(run.path / "checkpoints", last_is_best=metrics["best_step"] == metrics["steps"])
        if config.callback.get("page") is not None:
            keep_run_page(run, "done", module.epochs)
        # Of a single run from when it was typed on; of a sweep's jobs without the libraries' imports.
        is_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        print(closing_lines(run, metrics, time.monotonic() - (started if is_sweep else typed_at)))
    return metrics


def note_command(run: RunDirectory, config: DictConfig) -> None:
    """Save the config, and what was typed for it."""
    run.write_config(config)
    if not HydraConfig.initialized() or HydraConfig.get().job.config_name == SAVED:
        return
    remember_folders(folders := typed_folders())
    # Of a job that is trained with others, Hydra knows what was typed for them all.
    if current_meeting() is None:
        run.write_arguments([*folder_arguments(folders), *HydraConfig.get().overrides.task])


def choose(config: DictConfig, module: VAEModule, threads: int) -> dict[str, object]:
    """Return what stands for the keys that are `auto`; the config takes over the form of the KL term."""
    chosen: dict[str, object] = {}
    if config.objective.get("kl") == "auto":
        chosen["objective.kl"] = config.objective.kl = module.objective.kl
    if config.threads == "auto":
        chosen["threads"] = threads
    return chosen


def announce(config: DictConfig, chosen: dict[str, object]) -> None:
    """Print what the choice of data has brought, and what `auto` has chosen."""
    if HydraConfig.initialized() and not config.resume:
        hydra = HydraConfig.get()
        # An experiment says itself what it is, and so does the run to which a prior is fitted.
        if not hydra.runtime.choices.get("experiment") and config.fit_prior_to is None:
            print(brought(config, hydra.runtime.choices, hydra.overrides.task))
    if chosen:
        print("auto chose", ", ".join(f"{key}={value}" for key, value in chosen.items()))


def final_numbers(module: VAEModule, trainer: Trainer, seconds: float) -> dict[str, float]:
    """Return the last number of each name that was logged, and of which weights and how much training they are."""
    return module.latest | {
        "epochs": module.epochs,
        "steps": trainer.global_step,
        "best_step": trainer.global_step if module.evaluated_step is None else module.evaluated_step,
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "seconds": round(seconds, 1),
    }
