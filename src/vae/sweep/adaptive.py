"""Sweeps that choose the next values from the results so far, with Optuna.

hydra-optuna-sweeper (1.3.0) needs an Optuna below 3 (2.10 is of 2021), has no pruner, and leaves the trials that
an interrupted launch had begun as they are.
"""

from collections.abc import Callable, Sequence
from typing import Any

from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError, check_choice, check_int
from vae.sweep.folder import SweepDirectory
from vae.sweep.grid import Grid, Job, make_job, parse_grid
from vae.sweep.sweeper import SweepBase

STUDY = "sweep"


class OptunaSweep(SweepBase):
    """`hydra/sweeper=optuna`: n_trials jobs, n_jobs at once, whose study is the file optuna.log in the sweep.

    Args:
        objectives: such as `maximize val/elbo`: a direction and the name of a final number.
        n_trials: how many jobs there should be, those of an interrupted launch included.
        n_jobs: how many are chosen and launched at a time; as many as the launcher runs at once.
        sampler: seed → an Optuna sampler.
        seed: of the sampler; a launch that goes on with a study does not draw the first values again.
        pruner: an Optuna pruner, which ends bad trials early; null, or more than one objective, for none.
        params: search space, in the words of the command line (`choice`, `range`, `interval`, `tag(log, …)`).
        max_batch_size: as for every sweep.
    """

    def __init__(
        self,
        objectives: Sequence[str],
        n_trials: int,
        n_jobs: int,
        seed: int,
        sampler: Callable[..., Any],
        pruner: Any = None,
        params: DictConfig | None = None,
        max_batch_size: int | None = None,
    ):
        super().__init__(params, max_batch_size)
        self.objectives = dict(_objective(str(each)) for each in objectives)
        self.n_trials = check_int("hydra.sweeper.n_trials", n_trials)
        self.n_jobs = check_int("hydra.sweeper.n_jobs", n_jobs)
        self.seed = check_int("hydra.sweeper.seed", seed, minimum=0)
        self.sampler = sampler
        self.distributions: dict[str, Any] = {}

    def read(self, overrides: Sequence[Override], presets: int) -> Grid:
        last = {override.get_key_element(): override for override in overrides}
        varied = {key: override for key, override in last.items() if override.is_sweep_override()}
        if not varied:
            raise ConfigError("hydra/sweeper=optuna: there is no key to search over")
        self.distributions = {key: distribution(override) for key, override in varied.items()}
        constants = parse_grid([override for key, override in last.items() if key not in varied]).constants
        return Grid({key: _examples(space) for key, space in self.distributions.items()}, constants)

    def first_jobs(self, grid: Grid) -> list[Job]:
        """Those of an earlier launch; the rest is not known yet."""
        return self.folder.jobs() if self.folder.manifest_file.exists() else []

    def run(self, grid: Grid, jobs: list[Job]) -> None:
        import optuna

        from vae.sweep.report.rounding import Rounded

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        study = optuna.create_study(
            storage=storage(self.folder),
            study_name=STUDY,
            directions=list(self.objectives.values()),
            load_if_exists=True,
        )
        study.sampler = Rounded(self.sampler(seed=self.seed + len(study.trials)))
        pending = self._take_up(study)
        ended = study.get_trials(
            deepcopy=False, states=(optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
        )
        left = self.n_trials - len(ended) - len(pending)
        while pending or left > 0:
            while len(pending) < self.n_jobs and left > 0:
                trial = study.ask(self.distributions)
                pending[trial.number] = _job_of(trial)
                trial.set_user_attr("job", pending[trial.number].name)
                left -= 1
            launched = {number: pending.pop(number) for number in list(pending)[: self.n_jobs]}
            distinct = list({job.name: job for job in launched.values()}.values())
            self.folder.add(distinct, pruning=self._pruning())
            self.launch(grid, distinct)
            for number, job in launched.items():
                self._tell(study, number, job)

    def _take_up(self, study: Any) -> dict[int, Job]:
        """Trials that an interrupted launch left running, and, to be tried again, those that failed."""
        from optuna.trial import Trial, TrialState

        waiting = [
            trial.system_attrs.get("fixed_params") for trial in study.get_trials(states=(TrialState.WAITING,))
        ]
        for trial in study.get_trials(states=(TrialState.FAIL,)):
            job = trial.user_attrs.get("job")
            again = job is not None and self.folder.job(job).state() == "failed"
            if again and trial.params not in waiting:
                study.enqueue_trial(trial.params)
                waiting.append(trial.params)
        pending = {}
        for trial in study.get_trials(states=(TrialState.RUNNING,)):
            if trial.params.keys() != self.distributions.keys():
                # Killed while its values were chosen.
                study.tell(trial.number, state=TrialState.FAIL)
                continue
            pending[trial.number] = _job_of(trial)
            Trial(study, trial._trial_id).set_user_attr("job", pending[trial.number].name)
        return pending

    def _tell(self, study: Any, number: int, job: Job) -> None:
        from optuna.trial import TrialState

        directory = self.folder.job(job.name)
        state, metrics = directory.state(), directory.metrics()
        if state == "pruned":
            study.tell(number, state=TrialState.PRUNED)
            return
        missing = [name for name in self.objectives if metrics.get(name) is None]
        if state == "done" and missing:
            raise ConfigError(f"hydra.sweeper.objectives: no {missing[0]} in {sorted(metrics)}")
        if state == "done":
            study.tell(number, [metrics[name] for name in self.objectives])
        else:
            study.tell(number, state=TrialState.FAIL)

    def _pruning(self) -> dict[str, Any] | None:
        """What a job needs to know to be pruned; in sweep.json, where the job looks."""
        pruner = self.config.hydra.sweeper.pruner
        if pruner is None or len(self.objectives) > 1:
            return None
        return {"monitor": next(iter(self.objectives)), "pruner": OmegaConf.to_container(pruner, resolve=True)}


def _objective(text: str) -> tuple[str, str]:
    """The name of a final number, and its direction."""
    direction, _, name = text.partition(" ")
    key = f"hydra.sweeper.objectives=[{text}]"
    return name.strip(), check_choice(f"{key}: direction", direction, ("maximize", "minimize"))


def storage(folder: SweepDirectory) -> Any:
    """The study's file: it may be written by several processes, and on network file systems."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(folder.path / "optuna.log")))


def distribution(override: Override) -> Any:
    """Optuna's distribution of what was typed.

    Raises:
        ConfigError: nothing to choose from.
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    value = override.value()
    given = f"{override.get_key_element()}={override.get_value_string()}"
    try:
        if isinstance(value, IntervalSweep):
            low, high, log = value.start or 0.0, value.end or 0.0, "log" in value.tags
            if isinstance(low, int) and isinstance(high, int):
                return IntDistribution(low, high, log=log)
            return FloatDistribution(float(low), float(high), log=log)
        if isinstance(value, RangeSweep) and isinstance(value.start, int) and isinstance(value.step, int):
            values = [int(str(each)) for each in override.sweep_iterator()]
            return IntDistribution(values[0], values[-1], step=value.step)
        return CategoricalDistribution(list(override.sweep_string_iterator()))
    except (ValueError, IndexError) as error:
        raise ConfigError(f"{given}: {' '.join(str(error).split())}") from error


def _examples(space: Any) -> list[str]:
    """Values with which the config is tried out before any job runs."""
    return list(space.choices) if hasattr(space, "choices") else [str(space.low)]


def _job_of(trial: Any) -> Job:
    return make_job({key: _typed(value) for key, value in trial.params.items()})


def _typed(value: float | int | str) -> str:
    """A value as it would be typed."""
    return f"{value:.12g}" if isinstance(value, float) else str(value)
