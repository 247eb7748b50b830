"""Train a variational autoencoder: python train.py (or python -m vae.train) [group=option …] [key=value …]."""

import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from vae.checks import ConfigError
from vae.command.command import command, fail, what_resumes
from vae.command.distributed import (
    SAVED,
    children_run_this_config,
    end_with_whoever_started_this,
    first_rank_leads,
    is_child,
    tell_further_ranks,
)
from vae.command.interruption import Interrupted, signals_interrupt
from vae.sweep.resume import resume_arguments
from vae.training.collection import without_search

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("train")
def train(config: "DictConfig") -> float | None:
    """Compose, instantiate, fit, evaluate the best checkpoint; return the metric that a sweep maximises."""
    typed_at = time.monotonic()
    # Here and not above, so that `python train.py --help` need not wait for torch.
    with without_search():
        from hydra.core.hydra_config import HydraConfig
        from hydra.types import RunMode
        from hydra.utils import instantiate
        from lightning import seed_everything
        from lightning.fabric.utilities.exceptions import MisconfigurationException
        from omegaconf import OmegaConf

        from vae.data.shared_images import share_images
        from vae.page.run_page import write_run_page
        from vae.page.verdict import closing_lines
        from vae.run.directory import RunDirectory
        from vae.run.origin import origin
        from vae.run.resume import Continuation
        from vae.run.saved_config import CONFIG_DIR
        from vae.run.trust import check_typed, remember_folders, typed_folders
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
        from vae.training.threads import threads_for, use_threads

    started = time.monotonic()
    end_with_whoever_started_this()
    run = RunDirectory(config.paths.run)
    OmegaConf.resolve(config)
    check_typed(config)
    with signals_interrupt(), nullcontext() if is_child() else run.claim():
        typed = None if is_child() else what_resumes()
        saved = None if typed is None else run.resumed_config(typed)
        begun = Continuation(run, config, saved, is_first=not is_child())
        if begun.is_finished:
            tell_further_ranks(run.path)
            if not is_child():
                print(begun.describe())
            return run.metrics().get(config.sweep_metric)

        def note_command() -> None:
            run.write_config(config)
            if HydraConfig.initialized() and HydraConfig.get().job.config_name != SAVED:
                remember_folders(folders := typed_folders())
                flags = [f"{CONFIG_DIR}={folder}" for folder in folders[:1]]
                run.write_arguments([*flags, *HydraConfig.get().overrides.task])

        if not is_child() and typed is None and not begun.replaces:
            note_command()
        if config.data.batch_size == "auto":
            config.data.batch_size = largest_batch_size(config)
        seed_everything(config.seed, verbose=False)
        set_matmul_precision(config.matmul_precision)
        data = instantiate(config.data)
        share_images(data, config.data)
        data.note = run.keep_images
        trainer = build_trainer(config)
        module = build_module(config, data, trainer)
        chosen: dict[str, object] = {}
        if config.objective.get("kl") == "auto":
            chosen["objective.kl"] = config.objective.kl = module.objective.kl
        threads = threads_for(config.threads, module, trainer, data.batch_size)
        if config.threads == "auto":
            chosen["threads"] = threads
        checkpoint = begun.checkpoint
        if not is_child():
            checkpoint = begun.take_up()
            if begun.replaces:
                note_command()
            # With the batch size that was found, and the form of the KL term.
            run.write_config(config)
            tell_further_ranks(run.path)
            if HydraConfig.initialized() and not config.resume:
                hydra = HydraConfig.get()
                # An experiment says itself what it is.
                if not hydra.runtime.choices.get("experiment"):
                    print(brought(config, hydra.runtime.choices, hydra.overrides.task))
            if chosen:
                print("auto chose", ", ".join(f"{key}={value}" for key, value in chosen.items()))

        with children_run_this_config(run), use_threads(threads):
            hide_unused_gpus(trainer)
            if trainer.is_global_zero:
                run.write_origin(origin(trainer))
            try:
                for logger in trainer.loggers:
                    logger.log_hyperparams(dict(config))
                trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
                trainer.validate(
                    module, data, ckpt_path=best_checkpoint(trainer, run), weights_only=True, verbose=False
                )
                trainer.test(module, data, verbose=False)
            except (MisconfigurationException, RuntimeError) as error:
                if (plain := explained(config, trainer, error)) is error:
                    raise
                raise plain from error
            finally:
                finish_loggers(trainer)

        metrics = module.latest | {
            "epochs": module.epochs,
            "steps": trainer.global_step,
            "best_step": trainer.global_step if module.evaluated_step is None else module.evaluated_step,
            "parameters": sum(parameter.numel() for parameter in module.parameters()),
            "seconds": round(time.monotonic() - started, 1),
        }
        if trainer.is_global_zero:
            run.write_metrics(metrics)
            if config.callback.get("page") is not None:
                write_run_page(run, "done", module.epochs)
            # Of a single run from when it was typed on; of a sweep's jobs without the libraries' imports.
            is_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
            print(closing_lines(run, metrics, time.monotonic() - (started if is_sweep else typed_at)))
        return metrics.get(config.sweep_metric)


def main() -> None:
    """The command, which `resume=<run or sweep>` lets go on with what that directory holds."""
    try:
        with signals_interrupt(), first_rank_leads(sys.argv) as given:
            sys.argv = resume_arguments(given)
            train()
    except Interrupted as signal:
        signal.say("nothing was saved")
        raise
    except ConfigError as error:
        raise SystemExit(fail(error, "train")) from error


if __name__ == "__main__":
    main()
