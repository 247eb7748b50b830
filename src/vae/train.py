"""Train a variational autoencoder: python train.py (or python -m vae.train) [group=option …] [key=value …]."""

import sys
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

from vae.checks import ConfigError
from vae.command.command import command, fail, note_typed, what_resumes
from vae.command.distributed import (
    end_with_whoever_started_this,
    first_rank_leads,
    is_child,
    tell_further_ranks,
)
from vae.command.interruption import Interrupted, signals_interrupt
from vae.sweep.resume import resume_arguments
from vae.training.collection import without_search
from vae.training.fit_prior import name_after, take_parts

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("train")
def train(config: "DictConfig") -> float | None:
    """Train one run, or go on with it; return the metric that a sweep maximises."""
    typed_at = time.monotonic()
    # Here and not above, so that `python train.py --help` need not wait for torch.
    with without_search():
        from omegaconf import OmegaConf

        from vae.run.directory import RunDirectory
        from vae.run.resume import Continuation
        from vae.run.trust import check_typed
        from vae.training.fit import fit

    end_with_whoever_started_this()
    run = RunDirectory(config.paths.run)
    take_parts(config)
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
        metrics = fit(config, begun, typed_at, is_new=not is_child() and typed is None)
        return metrics.get(config.sweep_metric)


def main() -> None:
    """Run the command. With `resume=<run or sweep>` it goes on with what that directory holds."""
    note_typed(sys.argv)
    try:
        with signals_interrupt(), first_rank_leads(sys.argv) as given:
            sys.argv = resume_arguments(name_after(given))
            train()
    except Interrupted as signal:
        signal.say("nothing was saved")
        raise
    except ConfigError as error:
        raise SystemExit(fail(error, "train")) from error


if __name__ == "__main__":
    main()
