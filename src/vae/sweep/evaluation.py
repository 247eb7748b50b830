"""`vae.evaluate sweep=…`: the evaluation of all jobs of a sweep, by one of Hydra's launchers."""

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vae.checks import ConfigError
from vae.command.command import keys_of, one_word_flags
from vae.command.error_line import error_line
from vae.command.interruption import Interrupted
from vae.command.override import override
from vae.command.schema import check_composed
from vae.progress import duration, shown, task
from vae.run.files import check_folder
from vae.run.saved_config import check_arguments
from vae.sweep.devices import claim_gpus
from vae.sweep.directory import JobDirectory, SweepDirectory
from vae.sweep.job import Ends, give_back_memory, output_to
from vae.sweep.launcher import ONE_BY_ONE, OUTLIVES_THE_SWEEP, check_launcher, is_there, load_launcher
from vae.sweep.plan import Job

TAKE_EVALUATIONS = ("basic", "joblib", "ray", "submitit_slurm")
"""Launchers that run anything; `stacked` trains, and `submitit_local` starts all jobs at once."""


def sweep_arguments(argv: list[str]) -> list[str]:
    """Turn `sweep=<directory>` into the arguments of a multirun over its jobs, by the sweep's own launcher.

    Raises:
        ConfigError: this is no sweep's directory; or run= is there as well.
    """
    arguments = one_word_flags(argv[1:])
    given = [argument for argument in arguments if argument.startswith("sweep=")]
    if not given:
        return argv
    others = [argument for argument in arguments if argument not in given]
    if "run" in keys_of(others):
        raise ConfigError(f"{given[-1]}: takes all jobs of the sweep, so that run= must not be given")
    directory = SweepDirectory(given[-1].removeprefix("sweep=").strip("'\""))
    launcher = [] if "hydra/launcher" in keys_of(others) else _own_launcher(directory, others)
    return [argv[0], "--multirun", *launcher, override("hydra.sweep.dir", directory.path.absolute()), *others]


def _own_launcher(directory: SweepDirectory, others: Sequence[str]) -> list[str]:
    """Return the arguments by which the sweep has chosen its launcher; none where that one cannot evaluate."""
    arguments = directory.manifest().get("arguments") or []
    own = [argument for argument in arguments if argument.startswith(("hydra/launcher=", "hydra.launcher."))]
    names = {argument.removeprefix("hydra/launcher=") for argument in own}
    if not any(name in names and is_there(name) for name in TAKE_EVALUATIONS):
        return []
    try:
        return check_arguments(own, directory.manifest_file, keys_of(others))
    except ConfigError as error:
        raise ConfigError(f"{error}; type your own, or hydra/launcher=basic") from error


class EvaluatedJob:
    """What launchers run for each job: the command's task, with what it prints at the end of the job's output.log.

    Args:
        task: evaluates the run of a config.
    """

    def __init__(self, task: TaskFunction):
        self.task = task
        self.asked: Mapping[str, Any] = {}
        """What is to be measured, see `vae.evaluation.result.asked_for`."""
        self.found: EvaluationEnds | None = None
        """What is known of those that are evaluated now, in the command's own process."""

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"found": None}

    def __call__(self, config: DictConfig) -> None:
        """Evaluate a job, unless another process has done so meanwhile.

        What goes wrong is a line in its log, which unlike an exception reaches any process.
        """
        from vae.evaluation.result import is_evaluated  # here, as it needs torch

        hydra = HydraConfig.get()
        job = JobDirectory(hydra.runtime.output_dir)
        if hydra.runtime.choices.get("hydra/launcher") == "joblib":
            claim_gpus(config, job.path.parent)
        with job.lock(), output_to(job.log):
            if is_evaluated(job.path, self.asked):
                return
            try:
                self.task(config)
            except Exception as error:
                traceback.print_exception(error)
                print(error_line(error, hydra.overrides.task, "evaluate"))
            finally:
                give_back_memory()

    def ends(self, jobs: Iterable[JobDirectory]) -> "EvaluationEnds":
        """Return how the ends of jobs that are about to begin will show."""
        assert self.found is not None
        return self.found


class EvaluationEnds(Ends):
    """Those of evaluations, which leave job.json as it is: it is about the training.

    Args:
        jobs: before they begin.
        asked: what is to be measured, see `vae.evaluation.result.asked_for`.
    """

    def __init__(self, jobs: Iterable[JobDirectory], asked: Mapping[str, Any]):
        self.asked = asked
        self._logged = {job.name: job.log.stat().st_size if job.log.exists() else 0 for job in jobs}
        self._why: dict[str, str] = {}

    def has_come(self, job: JobDirectory) -> bool:
        return self.is_done(job) or self.error(job) is not None

    def cancel(self, job: JobDirectory, reason: str) -> None:
        self._why[job.name] = reason

    def explain(self, job: JobDirectory, reason: str) -> None:
        self._why[job.name] = f"its process died ({reason})"

    def is_done(self, job: JobDirectory) -> bool:
        """Return whether a job has the evaluation that is asked for."""
        from vae.evaluation.result import is_evaluated  # here, as it needs torch

        return is_evaluated(job.path, self.asked)

    def error(self, job: JobDirectory) -> str | None:
        """Return what went wrong; None as long as nothing is known to have."""
        lines: list[str] = []
        if job.log.exists():
            with job.log.open("rb") as log:
                log.seek(self._logged[job.name])
                lines = log.read().decode(errors="replace").splitlines()
        errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        return errors[-1] if errors else self._why.get(job.name)


class EvaluationSweep(Sweeper):
    """Evaluates those jobs of a sweep that are done, and that have no such evaluation yet."""

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra with the config of the command."""
        self.hydra_context, self.config = hydra_context, config
        self.directory = SweepDirectory(Path(config.hydra.sweep.dir).absolute())
        self.launcher_name: str = config.hydra.runtime.choices.get("hydra/launcher")
        if self.launcher_name not in TAKE_EVALUATIONS:
            raise ConfigError(
                f"hydra/launcher={self.launcher_name}: must be one of {', '.join(TAKE_EVALUATIONS)} for"
                " evaluations"
            )
        if config.trainer.devices != 1:
            raise ConfigError(
                f"trainer.devices={config.trainer.devices}: must be 1 with sweep=…, whose jobs may be evaluated"
                " side by side (hydra/launcher=joblib)"
            )
        if config.out is not None:
            raise ConfigError(
                f"out={config.out}: must be null with sweep=…, whose summary has what is in the jobs"
            )
        self.job = EvaluatedJob(task_function)
        self.launcher = load_launcher(hydra_context, self.job, config)

    def sweep(self, arguments: list[str]) -> None:
        """Evaluate the jobs, write the sweep's summary and report, and leave with status 1 if one failed."""
        from vae.evaluation.evaluate_run import resolve
        from vae.evaluation.result import asked_for

        for each in OverridesParser.create().parse_overrides(arguments):
            if each.is_sweep_override():
                raise ConfigError(f"{each.input_line}: must be one value, the same for all jobs of the sweep")
        check_folder(self.directory.path)
        jobs = [job for job in self.directory.jobs() if self.directory.job(job.name).state() == "done"]
        if not jobs:
            raise ConfigError(f"sweep={self.directory.path}: no job of it is done")
        check_launcher(self.launcher, self.config)
        overrides = {job.name: self._overrides(job, arguments) for job in jobs}
        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides[jobs[0].name])
        check_composed(config, "evaluate")
        resolve(config)
        begun = time.monotonic()
        directories = {job.name: self.directory.job(job.name) for job in jobs}
        self.job.asked = asked_for(config)
        ends = self.job.found = EvaluationEnds(directories.values(), self.job.asked)
        left = [name for name, job in directories.items() if not ends.is_done(job)]
        try:
            died = self._launch_all(left, overrides, lambda name: ends.has_come(directories[name]))
        except Interrupted as signal:
            others = "; SLURM's go on" if self.launcher_name in OUTLIVES_THE_SWEEP else ""
            signal.say(f"the same command evaluates the other jobs{others}")
            raise
        failed = {
            name: ends.error(directories[name]) or died.get(name, "it was evaluated, but not as is asked for here")
            for name in left
            if not ends.is_done(directories[name])
        }
        self._close(len(jobs), len(left), failed, time.monotonic() - begun)

    def _launch_all(
        self, names: Sequence[str], overrides: dict[str, list[str]], has_come: Callable[[str], bool]
    ) -> dict[str, str]:
        """Launch jobs until each has ended; of those whose process has died, why.

        One process that dies may take others with it: what is left is launched again as long as more of it ends,
        and then one by one.
        """
        left, error = list(names), self._launch(names, overrides)
        while error is not None:
            before, left = left, [name for name in left if not has_come(name)]
            if len(left) == len(before):
                break
            error = self._launch(left, overrides)
        died = {name: self._launch([name], overrides) for name in left if not has_come(name)} if error else {}
        return {name: f"its process died ({why})" for name, why in died.items() if why is not None}

    def _overrides(self, job: Job, arguments: Sequence[str]) -> list[str]:
        folder = self.directory.path
        places = {"run": folder / job.name, "hydra.sweep.dir": folder, "hydra.sweep.subdir": job.name}
        return [*arguments, *(override(key, place) for key, place in places.items())]

    def _launch(self, names: Sequence[str], overrides: dict[str, list[str]]) -> str | None:
        """Launch jobs; what the launcher says if one of their processes has died."""
        size, started, error = 1 if self.launcher_name in ONE_BY_ONE else max(1, len(names)), time.time(), None

        def look() -> tuple[float, str, str]:
            folders = [self.directory.path / name for name in names]
            times = [[file.stat().st_mtime for file in folder.glob("evaluation*.json")] for folder in folders]
            done = sum(max(each, default=0) >= started for each in times)
            return done / max(1, len(names)), f"evaluating {len(names)} jobs", ""

        with shown(), task("evaluating", look=look):
            for first in range(0, len(names), size):
                group = [overrides[name] for name in names[first : first + size]]
                try:
                    self.launcher.launch(group, initial_job_idx=first)
                except ConfigError:
                    raise
                except Exception as raised:  # a launcher's, of a worker that died
                    error = " ".join(f"{type(raised).__name__}: {raised}".split())[:300]
        return error

    def _close(self, jobs: int, evaluated: int, failed: dict[str, str], seconds: float) -> None:
        # Here, as they need pandas.
        from vae.sweep.report.write import write_report

        write_report(self.directory.path)
        others = len(self.directory.jobs()) - jobs
        lines = [f"Evaluated {evaluated - len(failed)} jobs in {duration(seconds)}"]
        lines[0] += f", {jobs - evaluated} before" if jobs > evaluated else ""
        lines[0] += f"; {others} are not done" if others else ""
        print("\n".join([*lines, *(f"  {self.directory.path / name}" for name in ("summary.csv", "report.html"))]))
        for name, line in failed.items():
            print(f"error: {name}: {line}", file=sys.stderr)
        if failed:
            sys.exit(1)
