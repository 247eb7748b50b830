"""Sweeps that choose the next values from the results so far, with Optuna.

They do not use hydra-optuna-sweeper (1.3.0): it needs an Optuna below 3 (2.10 is from 2021), has no pruner, and
does nothing about the trials that an interrupted launch had begun.
"""

from collections.abc import Collection, Sequence
from importlib.util import find_spec
from typing import Any

from hydra.core.override_parser.types import Override
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError, check_choice, check_int
from vae.sweep.plan import Job, Plan, read_plan
from vae.sweep.sweeper import Sweep


class OptunaSweep(Sweep):
    """`hydra/sweeper=optuna`: n_trials jobs, n_jobs at a time. The study is the file optuna.log in the sweep.

    Args:
        objectives: for example `maximize val/elbo`: a direction and the name of a final number.
        n_trials: the number of jobs, including those of an interrupted launch.
        n_jobs: the number of jobs chosen and launched at a time; as many as the launcher runs at once.
        seed: the sampler's seed; a launch that continues a study does not draw the first values again.
        sampler: config of a function seed → an Optuna sampler.
        pruner: config of an Optuna pruner, which ends bad trials early; null for none. With several objectives
            there is no pruner.
        params: the search space, in the syntax of the command line (`choice`, `range`, `interval`, `tag(log, …)`).
        max_batch_size: as for every sweep.
    """

    def __init__(
        self,
        objectives: Sequence[str],
        n_trials: int,
        n_jobs: int,
        seed: int,
        sampler: DictConfig,
        pruner: DictConfig | None = None,
        params: DictConfig | None = None,
        max_batch_size: int | None = None,
    ):
        super().__init__(params, max_batch_size)
        if find_spec("optuna") is None:
            raise ConfigError("hydra/sweeper=optuna: Optuna is not installed; pip install -e '.[optuna]'")
        self.objectives = dict(_objective(str(each)) for each in objectives)
        self.n_trials = check_int("hydra.sweeper.n_trials", n_trials)
        self.n_jobs = check_int("hydra.sweeper.n_jobs", n_jobs)
        self.seed = check_int("hydra.sweeper.seed", seed, minimum=0)
        self.sampler = instantiate(sampler)
        # Each job makes its own pruner. It is made here too, so that an invalid one is refused at once.
        instantiate(pruner)
        self.spaces: dict[str, Any] = {}

    def read(self, overrides: Sequence[Override], varied: Collection[str]) -> Plan:
        from vae.sweep.study import examples, search_space

        last = {override.get_key_element(): override for override in overrides}
        searched = {key: override for key, override in last.items() if override.is_sweep_override()}
        if not searched:
            raise ConfigError("hydra/sweeper=optuna: there is no key to search over")
        if self.config.sweep.jobs:
            raise ConfigError("sweep.jobs: hydra/sweeper=optuna chooses the jobs itself")
        self.spaces = {key: search_space(override) for key, override in searched.items()}
        constants = read_plan([override for key, override in last.items() if key not in searched]).constants
        return Plan({key: examples(space) for key, space in self.spaces.items()}, constants)

    def known_jobs(self, plan: Plan) -> list[Job]:
        """Return the jobs of an earlier launch. Later jobs are not known yet."""
        return self.directory.jobs() if self.directory.manifest_file.exists() else []

    def run(self, plan: Plan, jobs: list[Job]) -> None:
        import optuna

        from vae.sweep.study import NAME, RoundedDraws, belongs, job_of, storage

        study = optuna.create_study(
            storage=storage(self.directory),
            study_name=NAME,
            directions=list(self.objectives.values()),
            load_if_exists=True,
        )
        study.sampler = RoundedDraws(self.sampler(seed=self.seed + len(study.trials)))
        pending = self._take_up(study)
        over = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        left = self.n_trials - len(study.get_trials(deepcopy=False, states=over)) - len(pending)
        while pending or left > 0:
            while len(pending) < self.n_jobs and left > 0:
                trial = study.ask(self.spaces)
                if not belongs(trial, self.spaces):
                    raise ConfigError(
                        f"{self.directory.path / 'optuna.log'}: a trial has values that are not searched"
                    )
                pending[trial.number] = job_of(trial)
                left -= 1
            launched = {number: pending.pop(number) for number in list(pending)[: self.n_jobs]}
            different = list({job.name: job for job in launched.values()}.values())
            self.directory.write(different, pruning=self._pruning())
            self.launch(plan, different)
            for number, job in launched.items():
                self._report(study, number, job)

    def _take_up(self, study: Any) -> dict[int, Job]:
        """Return the trials that an interrupted launch left running.

        Failed trials are put into the queue, to be tried again.
        """
        from optuna.trial import TrialState

        from vae.sweep.study import belongs, job_of

        waiting = {trial.user_attrs.get("again") for trial in study.get_trials(states=(TrialState.WAITING,))}
        for trial in study.get_trials(states=(TrialState.FAIL,)):
            if not belongs(trial, self.spaces):
                continue
            name = job_of(trial).name
            if name not in waiting and self.directory.job(name).state() == "failed":
                study.enqueue_trial(trial.params, user_attrs={"again": name})
                waiting.add(name)
        pending = {}
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            if belongs(trial, self.spaces):
                pending[trial.number] = job_of(trial)
            else:
                # The trial was killed while its values were chosen, or was written by somebody else.
                study.tell(trial.number, state=TrialState.FAIL)
        return pending

    def _report(self, study: Any, number: int, job: Job) -> None:
        """Give the study the result of a trial."""
        from optuna.trial import TrialState

        directory = self.directory.job(job.name)
        state, metrics = directory.state(), directory.metrics()
        if state == "done":
            if missing := [name for name in self.objectives if metrics.get(name) is None]:
                raise ConfigError(f"hydra.sweeper.objectives: no {missing[0]} in {sorted(metrics)}")
            study.tell(number, [metrics[name] for name in self.objectives])
        else:
            study.tell(number, state=TrialState.PRUNED if state == "pruned" else TrialState.FAIL)

    def _pruning(self) -> dict[str, Any] | None:
        """Return what a job needs to know to be pruned. It is put into sweep.json, where the job reads it."""
        pruner = self.config.hydra.sweeper.pruner
        if pruner is None or len(self.objectives) > 1:
            return None
        return {"monitor": next(iter(self.objectives)), "pruner": OmegaConf.to_container(pruner, resolve=True)}


def _objective(text: str) -> tuple[str, str]:
    """Return the name of a final number, and its direction."""
    direction, _, name = text.partition(" ")
    key = f"hydra.sweeper.objectives=[{text}]"
    return name.strip(), check_choice(f"{key}: direction", direction, ("maximize", "minimize"))
