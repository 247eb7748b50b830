"""What every sweep does around its jobs: claim the directory, launch what is not done, say what came of it."""

import sys
import time
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from vae.checks import ConfigError
from vae.command.override import override
from vae.sweep.devices import check_devices, check_launcher
from vae.sweep.folder import SweepDirectory
from vae.sweep.grid import Grid, Job, parse_grid
from vae.sweep.identity import sweep_identity
from vae.sweep.memory import give_back_everything
from vae.sweep.report.summary_csv import closing_lines, dry_run_lines
from vae.sweep.status_line import Progress

EXTRAS = {"joblib": "joblib", "ray": "ray", "submitit_local": "slurm", "submitit_slurm": "slurm"}
PATIENCE = 60.0
"""Seconds in which a job that a launcher still holds should start, after another's process has died."""


class SweepBase(Sweeper):
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
        self.interrupted = False

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra with the config of the command, before any job is known."""
        HydraConfig.instance().set_config(config)
        self.hydra_context, self.config = hydra_context, config
        self.folder = SweepDirectory(Path(config.hydra.sweep.dir).absolute())
        if not config.sweep.dry_run:
            self.launcher = load_launcher(hydra_context, task_function, config)

    def sweep(self, arguments: list[str]) -> None:
        """Run what the arguments ask for, and leave with status 1 if a job failed."""
        params = [f"{key}={value}" for key, value in self.params.items()]
        parsed = OverridesParser.create(self.hydra_context.config_loader).parse_overrides([*params, *arguments])
        grid = self.read(parsed, len(params))
        if self.config.sweep.dry_run:
            print(dry_run_lines(self.folder, self.first_jobs(grid)))
            return
        identity = self.identity(grid)
        with self.folder.lock():
            command = [*self.config.hydra.overrides.hydra, *self.config.hydra.overrides.task]
            jobs = self.first_jobs(grid)
            self.folder.claim(
                command,
                identity,
                jobs,
                metric=self.config.sweep_metric,
                axes=list(grid.axes),
                constants=list(grid.constants),
            )
            started = time.monotonic()
            try:
                with Progress(self.folder, self.config.sweep_metric) as self.progress:
                    self.run(grid, jobs)
            except (KeyboardInterrupt, SystemExit):
                # Lightning turns Ctrl-C into an exit.
                self.interrupted = True
                self._stop_workers()
            finally:
                give_back_everything()
            self._close(time.monotonic() - started)

    @abstractmethod
    def read(self, overrides: Sequence[Override], presets: int) -> Grid:
        """The axes and what all jobs share; the first `presets` overrides are a preset's axes."""

    @abstractmethod
    def first_jobs(self, grid: Grid) -> list[Job]:
        """The jobs that are known before any has run."""

    @abstractmethod
    def run(self, grid: Grid, jobs: list[Job]) -> None:
        """Launch jobs until the sweep is complete."""

    def identity(self, grid: Grid) -> dict[str, Any]:
        """Whatever must be equal for launches to belong to one sweep."""
        return sweep_identity(self.hydra_context.config_loader, self.config, grid)

    def launch(self, grid: Grid, jobs: Sequence[Job]) -> None:
        """Run the jobs that are not done.

        A job whose process dies (killed for its memory, say) makes the launcher give up and may take others with
        it. Then what has not begun is launched again; and those that were interrupted one by one, so that
        one which dies again has nobody else to blame, and has failed.
        """
        check_devices(self.config)
        check_launcher(self._launcher_name(), self.config.hydra.launcher)
        left = [job for job in jobs if self.folder.job(job.name).state() not in ("done", "pruned")]
        self.progress.expect(left)
        suspects = []
        while left:
            attempts = self._attempts(left)
            error = self._launch_once(grid, left)
            if error is None:
                break
            if self._attempts(left) == attempts:
                raise error
            self._wait_for_others(left)
            states = self.folder.states(left)
            suspects += [job for job in left if states[job.name] == "interrupted"]
            left = [job for job in left if states[job.name] in ("waiting", "running")]
        for job in suspects:
            error = self._launch_once(grid, [job])
            if error is not None:
                self.folder.job(job.name).finish("failed", f"its process died ({type(error).__name__})")

    def _launcher_name(self) -> str | None:
        return self.config.hydra.runtime.choices.get("hydra/launcher")

    def _attempts(self, jobs: Sequence[Job]) -> int:
        return sum(self.folder.job(job.name).record().get("attempts", 0) for job in jobs)

    def _launch_once(self, grid: Grid, jobs: Sequence[Job]) -> Exception | None:
        shared = [*grid.constants, override("hydra.sweep.dir", self.folder.path)]
        overrides = [[*shared, *job.overrides(), override("hydra.sweep.subdir", job.name)] for job in jobs]
        # In process one at a time, as Hydra keeps the config of each job (1,600 objects) until a launch ends.
        size = 1 if self._launcher_name() == "basic" else self.max_batch_size or len(jobs)
        try:
            for first in range(0, len(jobs), size):
                self.launcher.launch(overrides[first : first + size], initial_job_idx=first)
        except Exception as error:
            return error
        return None

    def _wait_for_others(self, jobs: Sequence[Job]) -> None:
        """Let a launcher that goes on with the others (joblib does not) do so before they are launched again."""
        if self._launcher_name() == "joblib":
            return
        states, since = self.folder.states(jobs), time.monotonic()
        while {"waiting", "running"} & set(states.values()):
            if "running" not in states.values() and time.monotonic() - since > PATIENCE:
                return
            time.sleep(1)
            before, states = states, self.folder.states(jobs)
            since = since if states == before else time.monotonic()

    def _stop_workers(self) -> None:
        """See the jobs end that still run, Ray's because they do not hear of Ctrl-C; SLURM's are to go on."""
        if ray := sys.modules.get("ray"):
            ray.shutdown()
        if self._launcher_name() == "submitit_slurm":
            return
        deadline = time.monotonic() + 10
        while "running" in self.folder.states(self.folder.jobs()).values() and time.monotonic() < deadline:
            time.sleep(0.1)

    def _close(self, seconds: float) -> None:
        from vae.sweep.report.write import write_report

        write_report(self.folder.path)
        lines, good = closing_lines(self.folder, seconds, self.interrupted)
        print(lines, flush=True)
        if not good:
            sys.exit(130 if self.interrupted else 1)


class GridSweep(SweepBase):
    """Every combination of the values of the keys that vary: `-m latent_size=2,8 objective.k=1,5`."""

    def read(self, overrides: Sequence[Override], presets: int) -> Grid:
        return parse_grid(overrides, presets)

    def first_jobs(self, grid: Grid) -> list[Job]:
        return grid.jobs()

    def run(self, grid: Grid, jobs: list[Job]) -> None:
        self.launch(grid, jobs)


def load_launcher(context: HydraContext, task_function: TaskFunction, config: DictConfig) -> Launcher:
    """Hydra's launcher of the config.

    Raises:
        ConfigError: its plugin is not installed.
    """
    name = config.hydra.runtime.choices.get("hydra/launcher")
    try:
        return Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task_function, config=config
        )
    except (ImportError, RuntimeError) as error:
        if "nknown plugin" not in str(error) and "PLUGIN INSTALLED" not in str(error):
            raise
        extra = f"; pip install 'vae[{EXTRAS[name]}]'" if name in EXTRAS else ""
        raise ConfigError(f"hydra/launcher={name}: its plugin is not installed{extra}") from error
