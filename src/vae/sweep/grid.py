"""From overrides to jobs: which keys vary, over which values, and what each job's folder is called."""

import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hydra.core.override_parser.types import Override

from vae.checks import ConfigError

LONGEST_NAME = 180
"""Bytes: file systems allow 255 for a name, and others (W&B, archives) add to it."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its folder's name, and the value of every key that varies, as one would type it."""

    name: str
    values: Mapping[str, str]

    def overrides(self) -> list[str]:
        """The values as arguments of train.py."""
        return [f"{key}={value}" for key, value in self.values.items()]


@dataclass(frozen=True)
class Grid:
    """Every combination of the values of some keys, beside overrides that all jobs share."""

    axes: Mapping[str, Sequence[str]]
    constants: Sequence[str]

    def jobs(self) -> list[Job]:
        """The jobs, the last axis varying fastest.

        Raises:
            ConfigError: two of them would have the same folder.
        """
        combinations = itertools.product(*self.axes.values())
        return unique(make_job(dict(zip(self.axes, values, strict=True))) for values in combinations)


def make_job(values: Mapping[str, str]) -> Job:
    """The job with these values; its name depends on nothing else, so that it is the same at every launch."""
    return Job(job_name(values), values)


def unique(jobs: Iterable[Job]) -> list[Job]:
    """The jobs, if their folders differ on file systems that ignore case, too."""
    found: dict[str, Job] = {}
    for job in jobs:
        other = found.setdefault(job.name.casefold(), job)
        if other is not job:
            raise ConfigError(f"{' '.join(job.overrides())}: is the same job as {' '.join(other.overrides())}")
    return list(found.values())


def job_name(values: Mapping[str, str]) -> str:
    """A folder's name such as `latent_size=8,objective.k=5`, whatever the order in which keys were given.

    Only letters, digits and `=,._+-` are used. Where a value has other characters than a list's brackets
    and commas, or the name is too long, a digest of the values keeps different jobs apart.
    """
    if not values:
        return "job"
    plain = sorted((key.lstrip("+").replace("/", "."), value) for key, value in values.items())
    text = ",".join(f"{key}={_readable(value)}" for key, value in plain)
    lossless = all(re.fullmatch(r"[\w.+\-\[\], ]*", value, re.ASCII) for _, value in plain)
    if lossless and len(text) <= LONGEST_NAME:
        return text
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=4).hexdigest()
    return f"{text[:LONGEST_NAME]}-{digest}"


def _readable(value: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.+]+", "-", value).strip("-") if not _is_number(value) else value


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


def parse_grid(overrides: Sequence[Override], presets: int = 0) -> Grid:
    """Sort overrides into axes and constants; where a key is given twice, the last one counts.

    Args:
        overrides: as parsed by Hydra.
        presets: so many at the start are a preset's axes, even those with a single value.

    Raises:
        ConfigError: no values for a key, or the same twice, or values that cannot be counted.
    """
    preset = {override.get_key_element() for override in overrides[:presets]}
    last = {override.get_key_element(): override for override in overrides}
    axes, constants = {}, []
    for key, override in last.items():
        if override.is_sweep_override():
            axes[key] = _values(key, override)
        elif override.is_delete():
            constants.append(str(override.input_line))
        elif override.get_value_string() == "":
            raise ConfigError(f"{key}=: there is no value to sweep over")
        elif key in preset:
            axes[key] = [override.get_value_element_as_str()]
        else:
            constants.append(f"{key}={override.get_value_element_as_str()}")
    return Grid(axes, constants)


def _values(key: str, override: Override) -> list[str]:
    given = f"{key}={override.get_value_string()}"
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{given}: a grid needs values that can be counted; hydra/sweeper=optuna takes intervals"
        )
    values = list(override.sweep_string_iterator())
    if not values:
        raise ConfigError(f"{given}: there is no value to sweep over")
    seen: dict[object, str] = {}
    for value in values:
        number = float(value) if _is_number(value) else value
        if number in seen:
            raise ConfigError(f"{given}: {value} and {seen[number]} are the same job")
        seen[number] = value
    return values
