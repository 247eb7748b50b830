"""Which jobs of a sweep compare: those whose bounds are of the same images and of the same kind of likelihood."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vae.checks import ConfigError
from vae.metric.definition import Scored, definition, what_is_scored
from vae.sweep.directory import SweepDirectory
from vae.sweep.plan import Job

if TYPE_CHECKING:
    import pandas as pd

OF_IMAGES_OR_LIKELIHOOD = ("data", "likelihood", "experiment")


def may_differ(axes: Sequence[str]) -> bool:
    """Whether jobs that differ in these keys may have bounds that do not compare."""
    own = ("data.binarize", "data.size", "data.name")
    return any(axis.lstrip("+") in (*OF_IMAGES_OR_LIKELIHOOD, *own) for axis in axes)


def scored(directory: SweepDirectory, jobs: Sequence[Job]) -> dict[str, Scored]:
    """What the bound of each job is of, by its name; empty where all are the same, or it is not known.

    Only where a key varies that may matter are the jobs' configs read.
    """
    if not may_differ(directory.manifest()["axes"]):
        return {}
    kinds = {job.name: kind for job in jobs if (kind := scored_by(directory, job.name)) is not None}
    return kinds if len(set(kinds.values())) > 1 else {}


def scored_by(directory: SweepDirectory, job: str) -> Scored | None:
    """What the bound of a job is of; None if it has not begun."""
    from vae.run.directory import RunDirectory  # here, so that a sweep can be listed without waiting for torch

    try:
        return what_is_scored(RunDirectory(directory.path / job).config())
    except ConfigError:
        return None


def winners(table: "pd.DataFrame", metric: str, kinds: dict[str, Scored]) -> "list[tuple[str, pd.Series[Any]]]":
    """The completed job with the largest value of a measure, in each group that compares, and the group's name.

    Args:
        table: a sweep's results.
        metric: the measure.
        kinds: what `scored` says.
    """
    if metric not in table:
        return []
    done = table[table["status"] == "done"].dropna(subset=[metric])
    groups = done.groupby([group_of(job, metric, kinds) for job in done["job"]], sort=False)
    return [(name, group.loc[group[metric].idxmax()]) for name, group in groups]


def group_of(job: str, metric: str, kinds: dict[str, Scored]) -> str:
    """The group in which a job's measure compares: of images alone where the measure is not of the likelihood."""
    kind = kinds.get(job)
    if kind is None:
        return ""
    if definition(metric.partition("/")[2]).of_likelihood:
        return str(kind)
    return kind.images if len({each.images for each in kinds.values()}) > 1 else ""
