"""Which jobs of a sweep compare: those whose bounds are of the same images and of the same kind of likelihood."""

from collections.abc import Sequence
from typing import Any

from vae.checks import ConfigError
from vae.metric.definition import Scored, definition, what_is_scored
from vae.sweep.folder import SweepDirectory
from vae.sweep.grid import Job

Row = dict[str, Any]
OF_IMAGES_OR_LIKELIHOOD = ("data", "likelihood", "experiment")


def may_differ(axes: Sequence[str]) -> bool:
    """Whether jobs that differ in these keys may have bounds that do not compare."""
    own = ("data.binarize", "data.size", "data.name")
    return any(axis.lstrip("+") in (*OF_IMAGES_OR_LIKELIHOOD, *own) for axis in axes)


def scored(folder: SweepDirectory, jobs: Sequence[Job]) -> dict[str, Scored]:
    """What the bound of each job is of, by its name; empty where all are the same, or it is not known.

    Only where a key varies that may matter are the jobs' configs read.
    """
    if not may_differ(folder.manifest()["axes"]):
        return {}
    kinds = {job.name: kind for job in jobs if (kind := scored_by(folder, job.name)) is not None}
    return kinds if len(set(kinds.values())) > 1 else {}


def scored_by(folder: SweepDirectory, job: str) -> Scored | None:
    """What the bound of a job is of; None if it has not begun."""
    from vae.run.directory import RunDirectory  # here, so that a sweep can be listed without waiting for torch

    try:
        return what_is_scored(RunDirectory(folder.path / job).config())
    except ConfigError:
        return None


def winners(table: Sequence[Row], metric: str, kinds: dict[str, Scored]) -> list[tuple[str, Row]]:
    """The completed job with the largest value of a measure, in each group that compares, and the group's name."""
    groups: dict[str, list[Row]] = {}
    for row in table:
        if row["status"] == "done" and row.get(metric) is not None:
            groups.setdefault(group_of(row["job"], metric, kinds), []).append(row)
    return [(name, max(rows, key=lambda row: row[metric])) for name, rows in groups.items()]


def group_of(job: str, metric: str, kinds: dict[str, Scored]) -> str:
    """The group in which a job's measure compares: of images alone where the measure is not of the likelihood."""
    kind = kinds.get(job)
    if kind is None:
        return ""
    if definition(metric.partition("/")[2]).of_likelihood:
        return str(kind)
    return kind.images if len({each.images for each in kinds.values()}) > 1 else ""
