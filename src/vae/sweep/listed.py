"""Sweeps over a list of jobs, for tables whose cells are no grid."""

from collections.abc import Sequence
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig

from vae.checks import ConfigError
from vae.sweep.grid import Grid, Job, make_job, parse_grid, unique
from vae.sweep.identity import identity_of
from vae.sweep.sweeper import SweepBase


class ListedSweep(SweepBase):
    """`hydra/sweeper=listed`: the jobs that are listed, and no others.

    Args:
        jobs: the overrides of each job, with spaces in between.
        params: none; every job lists its own.
        max_batch_size: as for every sweep.
    """

    def __init__(self, jobs: Sequence[str], params: DictConfig | None = None, max_batch_size: int | None = None):
        super().__init__(params, max_batch_size)
        self.listed = unique(make_job(job_values(line)) for line in jobs)

    def read(self, overrides: Sequence[Override], presets: int) -> Grid:
        """The keys that some job sets, and what all jobs share.

        Raises:
            ConfigError: there is no job, or the command line has a grid, too.
        """
        shared = parse_grid(overrides, presets)
        if not self.listed or shared.axes:
            given = ", ".join(shared.axes) or "none"
            raise ConfigError(
                f"hydra.sweeper.jobs: must list the jobs, with all that varies (beside them: {given})"
            )
        axes: dict[str, list[str]] = {}
        for job in self.listed:
            for key, value in job.values.items():
                axes.setdefault(key, [])
                axes[key] += [value] if value not in axes[key] else []
        return Grid(axes, shared.constants)

    def first_jobs(self, grid: Grid) -> list[Job]:
        return self.listed

    def run(self, grid: Grid, jobs: list[Job]) -> None:
        self.launch(grid, jobs)

    def identity(self, grid: Grid) -> dict[str, Any]:
        """What all jobs share; a later launch may list others, with other keys.

        All are composed, so that a misspelled key is an error of the command and not of each job.
        """
        loader = self.hydra_context.config_loader
        for job in self.listed:
            loader.load_sweep_config(self.config, [*grid.constants, *job.overrides()])
        return identity_of(loader.load_sweep_config(self.config, list(grid.constants)), Grid({}, grid.constants))


def job_values(line: str) -> dict[str, str]:
    """The value of each key of a listed job.

    Raises:
        ConfigError: several values for a key, or none.
    """
    parsed = OverridesParser.create().parse_overrides(line.split())
    if any(override.is_sweep_override() or override.is_delete() for override in parsed):
        raise ConfigError(f"hydra.sweeper.jobs: {line}: a job has one value for each key")
    return {override.get_key_element(): override.get_value_element_as_str() for override in parsed}
