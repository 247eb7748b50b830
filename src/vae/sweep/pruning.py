"""A callback that ends a job of an adaptive sweep if its curve is worse than those of earlier jobs."""

from typing import Any

import optuna
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer

from vae.checks import ConfigError
from vae.internals import optuna_trial
from vae.run.saved_config import check_plain
from vae.run.trust import check_targets
from vae.sweep.directory import SweepDirectory
from vae.sweep.job import TrialPruned
from vae.sweep.study import NAME, job_of, storage


class Pruning(Callback):
    """A callback that reports the monitored number to the sweep's Optuna study after every epoch.

    It ends the run if the study says so.

    Args:
        sweep: the sweep's directory. Its sweep.json says which number is monitored, and names the Optuna pruner.
            That is not part of the run's config, because a run without Optuna may load the config.
        job: the name of this job.
    """

    def __init__(self, sweep: str, job: str):
        self.directory, self.job = SweepDirectory(sweep), job
        pruning, source = self.directory.manifest().get("pruning") or {}, self.directory.manifest_file
        # The sweep may come from a stranger: only one of Optuna's pruners is made, and nothing else.
        check_plain(pruning, source)
        check_targets({"pruner": pruning.get("pruner")}, source)
        if not isinstance(pruning.get("monitor"), str) or not isinstance(pruning.get("pruner"), dict):
            raise ConfigError(f"{source}: a damaged file (it names no pruner, which its jobs have)")
        self.monitor: str = pruning["monitor"]
        self.pruner: Any = instantiate(pruning["pruner"])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn != "fit" or self.monitor not in trainer.callback_metrics:
            return
        value = float(trainer.callback_metrics[self.monitor])
        stop = self._report(value, trainer.current_epoch) if trainer.is_global_zero else False
        if trainer.strategy.broadcast(stop):
            raise TrialPruned(f"{self.monitor} was {value:.6g} after epoch {trainer.current_epoch + 1}")

    def _report(self, value: float, epoch: int) -> bool:
        study = optuna.load_study(study_name=NAME, storage=storage(self.directory), pruner=self.pruner)
        running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        for frozen in running:
            if job_of(frozen).name == self.job:
                trial = optuna_trial(study, frozen)
                if epoch not in frozen.intermediate_values:
                    trial.report(value, epoch)
                return trial.should_prune()
        return False
