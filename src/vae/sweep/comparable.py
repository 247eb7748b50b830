"""Comparable jobs of a sweep: those whose bounds are for the same images and the same kind of likelihood."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vae.checks import ConfigError
from vae.metric.definition import Scored, definition, what_is_scored
from vae.sweep.directory import SweepDirectory
from vae.sweep.plan import Job

if TYPE_CHECKING:
    import pandas as pd

OF_IMAGES_OR_LIKELIHOOD = ("data", "likelihood", "experiment")


def may_differ(axes: Sequence[str]) -> bool:
    """Return whether jobs that differ in these keys may have bounds that are not comparable."""
    own = ("data.binarize", "data.size", "data.name")
    return any(axis.lstrip("+") in (*OF_IMAGES_OR_LIKELIHOOD, *own) for axis in axes)


def scored(directory: SweepDirectory, jobs: Sequence[Job]) -> dict[str, Scored]:
    """Return, by the job's name, the images and the kind of likelihood of its bound.

    The result is empty if all of them are the same or unknown. The configs of the jobs are read only if a key
    varies that may matter.
    """
    if not may_differ(directory.manifest()["axes"]):
        return {}
    kinds = {job.name: kind for job in jobs if (kind := scored_by(directory.path / job.name)) is not None}
    return kinds if len(set(kinds.values())) > 1 else {}


def scored_by(run: Path) -> Scored | None:
    """Return the images and the kind of likelihood of a run's bound, or None if no run has begun in the folder."""
    from vae.run.directory import RunDirectory  # here, so that listing a sweep does not wait for torch

    try:
        return what_is_scored(RunDirectory(run).config())
    except ConfigError:
        return None


def winners(table: "pd.DataFrame", metric: str, kinds: dict[str, Scored]) -> "list[tuple[str, pd.Series[Any]]]":
    """Return, for each group of comparable jobs, its name and the completed job with the largest measure.

    Args:
        table: a sweep's results.
        metric: the measure.
        kinds: the result of `scored`.
    """
    if metric not in table:
        return []
    done = table[table["status"] == "done"].dropna(subset=[metric])
    groups = done.groupby(done["job"].map(lambda job: group_of(job, metric, kinds)), sort=False)
    return [(name, group.loc[group[metric].idxmax()]) for name, group in groups]


def group_of(job: str, metric: str, kinds: dict[str, Scored]) -> str:
    """Return the group of jobs with which a job's measure is comparable.

    If the measure does not depend on the likelihood, the group depends on the images only.
    """
    kind = kinds.get(job)
    if kind is None:
        return ""
    if definition(metric.partition("/")[2]).of_likelihood:
        return str(kind)
    return kind.images if len({each.images for each in kinds.values()}) > 1 else ""
