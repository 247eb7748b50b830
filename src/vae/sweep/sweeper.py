"""What every sweep does around its jobs: claim the directory, launch what is not done, tell what came of it."""

import sys
import time
from abc import abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, open_dict, read_write

from vae.checks import ConfigError
from vae.command.distributed import started
from vae.command.interruption import Interrupted
from vae.command.override import folder_arguments, override
from vae.command.schema import check_part
from vae.progress import shown, task
from vae.run.trust import SEARCHPATH, remember_folders, typed_folders
from vae.sweep.directory import SweepDirectory
from vae.sweep.job import RecordedTask, give_back_everything
from vae.sweep.launcher import (
    A_PROCESS_A_JOB,
    LEAVES_NOTHING,
    ONE_BY_ONE,
    OUTLIVES_THE_SWEEP,
    check_launcher,
    load_launcher,
)
from vae.sweep.plan import Job, Plan, read_plan
from vae.sweep.status_line import StatusLine, counted

PATIENCE = 60.0
"""Seconds in which a job that a launcher still holds should start, after another's process has died."""


class Sweep(Sweeper):
    """Launches jobs through any of Hydra's launchers so that nothing is lost or done twice.

    Args:
        params: values of each key, as one would type them; those on the command line come on top.
        max_batch_size: at most so many jobs are handed to the launcher at once; null for all.
    """

    hydra_context: HydraContext
    config: DictConfig
    launcher: Launcher

    def __init__(self, params: DictConfig | None = None, max_batch_size: int | None = None):
        self.max_batch_size = max_batch_size
        self.params = {str(key): value for key, value in (params or {}).items()}
        self.interrupted: int | None = None
        """The exit status of what has interrupted the sweep."""

    @abstractmethod
    def read(self, overrides: Sequence[Override], varied: Collection[str]) -> Plan:
        """Return what is swept; the keys in `varied` are axes even with a single value."""

    @abstractmethod
    def known_jobs(self, plan: Plan) -> list[Job]:
        """Return the jobs that are known before any has run."""

    @abstractmethod
    def run(self, plan: Plan, jobs: list[Job]) -> None:
        """Launch jobs until the sweep is complete."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra with the config of the command, before any job is known."""
        HydraConfig.instance().set_config(config)
        with read_write(config.hydra.runtime), open_dict(config.hydra.runtime):
            # For paths.run, which is each job's own; Hydra sets it when it starts one.
            config.hydra.runtime.output_dir = config.hydra.sweep.dir
        HydraConfig.instance().set_config(config)
        check_part(config, "sweep", "train")
        self.hydra_context, self.config = hydra_context, config
        self.directory = SweepDirectory(Path(config.hydra.sweep.dir).absolute())
        self.launcher_name: str | None = config.hydra.runtime.choices.get("hydra/launcher")
        if not config.sweep.dry_run:
            self.launcher = load_launcher(hydra_context, RecordedTask(task_function), config)

    def sweep(self, arguments: list[str]) -> None:
        """Run what the arguments ask for, and leave with status 1 if a job failed."""
        if self.config.overwrite:
            raise ConfigError("overwrite=true: is for a single run; a sweep goes on with what its folder holds")
        params = [f"{key}={value}" for key, value in self.params.items()]
        parsed = OverridesParser.create(self.hydra_context.config_loader).parse_overrides([*params, *arguments])
        plan = self.read(parsed, {*self.params, *self.directory.axes()})
        identity = plan.identity(self.hydra_context.config_loader, self.config)
        if self.config.sweep.dry_run:
            self.directory.check(identity)
            self._list(self.known_jobs(plan))
            return
        if there := started():
            raise ConfigError(
                f"{there.by}: a sweep starts the ranks of its jobs itself: type python train.py -m … "
                f"trainer.devices=… without {there.by}"
            )
        check_launcher(self.launcher, self.config)
        with self.directory.claim(identity):
            jobs = self.known_jobs(plan)
            remember_folders(folders := typed_folders())
            overrides = self.config.hydra.overrides
            of_hydra = [each for each in overrides.hydra if "pkg://" in each or not each.startswith(SEARCHPATH)]
            self.directory.write(
                jobs,
                arguments=[*folder_arguments(folders), *of_hydra, *overrides.task],
                identity=identity,
                metric=self.config.sweep_metric,
                axes=plan.keys,
                constants=list(plan.constants),
            )
            begun = time.monotonic()
            try:
                with StatusLine(self.directory, self.config.sweep_metric) as self.status_line:
                    self.run(plan, jobs)
            except (KeyboardInterrupt, SystemExit) as error:
                # Lightning turns Ctrl-C into an exit.
                self.interrupted = 130
                if isinstance(error, Interrupted):
                    self.interrupted, error.obeyed = error.status, True
                self._stop_workers()
            finally:
                give_back_everything()
            self._close(time.monotonic() - begun)

    def _list(self, jobs: Sequence[Job]) -> None:
        """Print the jobs of a dry run."""
        states = self.directory.states(jobs)
        for name, state in states.items():
            print(f"{state:<11} {name}")
        print(f"{len(jobs)} jobs in {self.directory.path}: {counted(states.values())}")

    def launch(self, plan: Plan, jobs: Sequence[Job]) -> None:
        """Run the jobs that are not done.

        A job whose process dies (killed for its memory, say) makes the launcher give up and may take others with
        it. Then what has not begun is launched again; and those that were interrupted one by one, so that
        one which dies again has nobody else to blame, and has failed. Where each job has a process of its own,
        that is clear anyway, and they are launched together.
        """
        left = [job for job in jobs if self.directory.job(job.name).state() not in ("done", "pruned")]
        self.status_line.expect(left)
        suspects = []
        while left:
            attempts = self._attempts(left)
            error = self._launch_once(plan, left)
            if error is None:
                break
            if self._attempts(left) == attempts:
                raise error
            self._wait_for_others(left)
            states = self.directory.states(left)
            suspects += [job for job in left if states[job.name] == "interrupted"]
            left = [job for job in left if states[job.name] in ("waiting", "running")]
        innocent = self.launcher_name in A_PROCESS_A_JOB and self.config.sweep.members is None
        for group in [suspects] if innocent and suspects else [[job] for job in suspects]:
            error = self._launch_once(plan, group)
            for job in group if error else ():
                directory = self.directory.job(job.name)
                if not innocent or directory.state() in ("interrupted", "waiting"):
                    why = directory.record().get("reason") or type(error).__name__
                    directory.finish("failed", f"its process died ({why})")

    def _attempts(self, jobs: Sequence[Job]) -> int:
        return sum(self.directory.job(job.name).record().get("attempts", 0) for job in jobs)

    def _launch_once(self, plan: Plan, jobs: Sequence[Job]) -> Exception | None:
        shared = [*plan.constants, override("hydra.sweep.dir", self.directory.path)]
        overrides = [[*shared, *job.overrides(), override("hydra.sweep.subdir", job.name)] for job in jobs]
        size = 1 if self.launcher_name in ONE_BY_ONE else self.max_batch_size or len(jobs)
        try:
            for first in range(0, len(jobs), size):
                self.launcher.launch(overrides[first : first + size], initial_job_idx=first)
        except Exception as error:
            return error
        return None

    def _wait_for_others(self, jobs: Sequence[Job]) -> None:
        """Let a launcher that goes on with the others do so before they are launched again."""
        if self.launcher_name in LEAVES_NOTHING:
            return
        states, since = self.directory.states(jobs), time.monotonic()
        while {"waiting", "running"} & set(states.values()):
            if "running" not in states.values() and time.monotonic() - since > PATIENCE:
                return
            time.sleep(1)
            before, states = states, self.directory.states(jobs)
            since = since if states == before else time.monotonic()

    def _stop_workers(self) -> None:
        """See the jobs end that still run, unless the launcher's are to go on."""
        if ray := sys.modules.get("ray"):
            # Its workers do not hear of Ctrl-C.
            ray.shutdown()
        if self.launcher_name in OUTLIVES_THE_SWEEP:
            return
        deadline = time.monotonic() + 10
        while "running" in self.directory.states(self.directory.jobs()).values() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _close(self, seconds: float) -> None:
        # Here, as they need pandas.
        from vae.sweep.report.write import write_report
        from vae.sweep.results import closing_lines

        with shown(sys.stdout), task("writing the report"):
            write_report(self.directory.path)
        lines, complete = closing_lines(self.directory, seconds, self.interrupted is not None)
        print(lines, flush=True)
        if not complete:
            sys.exit(self.interrupted or 1)


class GridSweep(Sweep):
    """Every combination of the values of the keys that vary: `-m latent_size=2,8 objective.k=1,5`.

    For tables whose cells are no grid, `sweep.jobs` lists overrides that are run with each of these combinations.
    """

    def read(self, overrides: Sequence[Override], varied: Collection[str]) -> Plan:
        return read_plan(overrides, varied, self.config.sweep.jobs)

    def known_jobs(self, plan: Plan) -> list[Job]:
        return plan.jobs()

    def run(self, plan: Plan, jobs: list[Job]) -> None:
        self.launch(plan, jobs)
