"""Ends a job of an adaptive sweep whose curve is worse than those of earlier ones."""

from typing import Any

from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer

from vae.sweep.adaptive import STUDY, storage
from vae.sweep.folder import SweepDirectory


class TrialPruned(Exception):  # noqa: N818  Optuna's word
    """Raised to end a pruned job; no error."""


class Pruning(Callback):
    """Reports the monitored number to the sweep's Optuna study after every epoch, and ends the run if told to.

    Args:
        sweep: the sweep's directory; its sweep.json says which number is monitored, and names the Optuna pruner.
            That is no part of the run's config, which a run without Optuna may load.
        job: the name of this job.
    """

    def __init__(self, sweep: str, job: str):
        self.folder, self.job = SweepDirectory(sweep), job
        pruning = self.folder.manifest()["pruning"]
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
        import optuna

        study = optuna.load_study(study_name=STUDY, storage=storage(self.folder), pruner=self.pruner)
        running = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,))
        mine = [trial for trial in running if trial.user_attrs.get("job") == self.job]
        for frozen in mine[:1]:
            trial = optuna.trial.Trial(study, frozen._trial_id)
            if epoch not in frozen.intermediate_values:
                trial.report(value, epoch)
            return trial.should_prune()
        return False
