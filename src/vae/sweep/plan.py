"""What a sweep's command asks for: its jobs, what each is called, and what makes two commands the same sweep."""

import hashlib
import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict

from vae.checks import ConfigError
from vae.command.schema import check_composed, check_part

LONGEST_NAME = 180
"""Bytes: file systems allow 255 for a name, and others (W&B, archives) add to it."""

NEUTRAL = (
    "name",
    "paths",
    "resume",
    "sweep",
    "sweep_metric",
    "logger",
    "open",
    "threads",
    "trust",
    "callback.page",
    "callback.progress",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.strategy",
    "trainer.num_nodes",
    "trainer.default_root_dir",
)
"""Keys that change where and how jobs run, not what they compute."""


@dataclass(frozen=True)
class Job:
    """One run of a sweep: its folder's name, and the value of every key that varies, as one would type it."""

    name: str
    values: Mapping[str, str]

    def overrides(self) -> list[str]:
        """Return the values as arguments of train.py."""
        return [f"{key}={value}" for key, value in self.values.items()]


@dataclass(frozen=True)
class Plan:
    """Every combination of the values of some keys, for each of the listed jobs, beside what all jobs share."""

    axes: Mapping[str, Sequence[str]]
    constants: Sequence[str]
    listed: Sequence[Mapping[str, str]] = ({},)

    @property
    def keys(self) -> list[str]:
        """All keys that vary."""
        return list(dict.fromkeys([*(key for values in self.listed for key in values), *self.axes]))

    def jobs(self) -> list[Job]:
        """Return the jobs, the last axis varying fastest.

        Raises:
            ConfigError: two of them would have the same folder.
        """
        combinations = list(itertools.product(*self.axes.values()))
        return distinct(
            make_job({**line, **dict(zip(self.axes, values, strict=True))})
            for line in self.listed
            for values in combinations
        )

    def identity(self, loader: ConfigLoader, config: DictConfig) -> dict[str, Any]:
        """Whatever must be equal for two commands to belong to one sweep.

        These are the axes, without their values, and the config that all jobs share, without what does not change
        numbers. Listed jobs do not count: a later command may list others, with other keys.

        The first job is composed for this, and so is one for each option of a config group that varies and for
        each listed job; other values of the axes take the first one's place. So a misspelled key or option, or an
        impossible value, is an error of the command and not of each job.
        """
        first = [f"{key}={values[0]}" for key, values in self.axes.items()]

        def checked(*overrides: str) -> DictConfig:
            job = loader.load_sweep_config(config, [*self.constants, *overrides])
            check_composed(job, "train")
            return job

        composed = checked(*first)
        options = {*config.hydra.runtime.choices, *composed.hydra.runtime.choices}
        for key, values in self.axes.items():
            if key.lstrip("+") not in options:
                _check_values(composed, key.lstrip("+"), values[1:])
                continue
            others = [override for override in first if not override.startswith(f"{key}=")]
            for value in values[1:]:
                checked(*others, f"{key}={value}")
        for line in self.listed:
            if line:
                checked(*first, *Job("", line).overrides())

        shared = OmegaConf.to_container(composed, resolve=False)
        assert isinstance(shared, dict)
        axes = [key.lstrip("+").partition("@")[0].replace("/", ".") for key in self.axes]
        for key in ("hydra", *NEUTRAL, *axes):
            _remove(shared, key)
        within = [c for c in self.constants if any(c.lstrip("+~").startswith(f"{axis}.") for axis in axes)]
        return {"axes": sorted(self.axes), "constants": sorted(within), "config": shared}


def _check_values(job: DictConfig, key: str, values: Sequence[str]) -> None:
    """Refuse values of an axis that its key may not have in this job."""
    job, group = job.copy(), key.partition(".")[0]
    for value in values if group != "hydra" else ():
        with open_dict(job):
            OmegaConf.update(job, key, OverridesParser.create().parse_override(f"{key}={value}").value())
        check_part(job, group, "train")


def _remove(container: dict[Any, Any], key: str) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        container = container.get(parent) or {}
        if not isinstance(container, dict):
            return
    container.pop(leaf, None)


def make_job(values: Mapping[str, str]) -> Job:
    """Return the job with these values. Its name depends on nothing else, so that it is the same at every
    launch.
    """
    return Job(job_name(values), values)


def distinct(jobs: Iterable[Job]) -> list[Job]:
    """Return the jobs, if their folders differ on file systems that ignore case, too.

    Raises:
        ConfigError: two have the same folder.
    """
    by_folder: dict[str, Job] = {}
    for job in jobs:
        other = by_folder.setdefault(job.name.casefold(), job)
        if other is not job:
            raise ConfigError(f"{' '.join(job.overrides())}: is the same job as {' '.join(other.overrides())}")
    return list(by_folder.values())


def job_name(values: Mapping[str, str]) -> str:
    """Return a folder's name such as `latent_size=8,objective.k=5`.

    It is the same in whatever order keys were typed, and however a value was: 0.1 and 1e-1 are one job. Only
    letters, digits and `=,._+-` are used. Where a value has other characters than a list's brackets and commas, or
    the name is too long, a digest of the values keeps different jobs apart.
    """
    if not values:
        return "job"
    plain = sorted((key.lstrip("+").replace("/", "."), canonical(value)) for key, value in values.items())
    text = ",".join(f"{key}={_readable(value)}" for key, value in plain)
    lossless = all(re.fullmatch(r"[\w.+\-\[\], ]*", value, re.ASCII) for _, value in plain)
    if lossless and len(text) <= LONGEST_NAME:
        return text
    digest = hashlib.blake2b(repr(plain).encode(), digest_size=4).hexdigest()
    return f"{text[:LONGEST_NAME]}-{digest}"


def _readable(value: str) -> str:
    is_number = re.fullmatch(r"[+-]?[\d.]+(e[+-]?\d+)?|-?inf|nan", value)
    return value if is_number else re.sub(r"[^A-Za-z0-9_.+]+", "-", value).strip("-")


@cache
def canonical(value: str) -> str:
    """Return one way of writing what can be typed in several: 1 for 1.0 and 1e0, true for True, [64,32] for
    [64, 32].
    """
    try:
        return _written(OverridesParser.create().parse_override(f"key={value}").value())
    except HydraException:
        return value


def _written(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case float():
            return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
        case list():
            return f"[{','.join(_written(item) for item in value)}]"
        case dict():
            return f"{{{','.join(f'{_written(key)}:{_written(item)}' for key, item in value.items())}}}"
    return str(value)


def read_plan(overrides: Sequence[Override], varied: Collection[str] = (), listed: Sequence[str] = ()) -> Plan:
    """Sort overrides into axes and constants; where a key is given twice, the last one counts.

    Args:
        overrides: as parsed by Hydra.
        varied: keys that are axes even with a single value, as a preset varies them or the sweep did before.
        listed: the overrides of each listed job, with spaces in between; none for a plain grid.

    Raises:
        ConfigError: no values for a key, or the same twice, or values that cannot be counted.
    """
    last = {override.get_key_element(): override for override in overrides}
    axes, constants = {}, []
    for key, override in last.items():
        if key == "sweep.jobs":
            continue
        if override.is_sweep_override():
            axes[key] = _values(key, override)
        elif override.is_delete():
            constants.append(str(override.input_line))
        elif override.get_value_string() == "":
            raise ConfigError(f"{key}=: there is no value to sweep over")
        elif key in varied:
            axes[key] = [override.get_value_element_as_str()]
        else:
            constants.append(f"{key}={override.get_value_element_as_str()}")
    lines = [listed_values(line) for line in listed]
    if twice := {key for values in lines for key in values} & set(axes):
        raise ConfigError(f"{min(twice)}: varies in sweep.jobs and beside them")
    return Plan(axes, constants, lines or ({},))


def _values(key: str, override: Override) -> list[str]:
    given = f"{key}={override.get_value_string()}"
    if not override.is_discrete_sweep():
        raise ConfigError(
            f"{given}: a grid needs values that can be counted; hydra/sweeper=optuna takes intervals"
        )
    values = list(override.sweep_string_iterator())
    if not values:
        raise ConfigError(f"{given}: there is no value to sweep over")
    by_meaning: dict[str, str] = {}
    for value in values:
        if (meaning := canonical(value)) in by_meaning:
            raise ConfigError(f"{given}: {value} and {by_meaning[meaning]} are the same job")
        by_meaning[meaning] = value
    return values


def listed_values(line: str) -> dict[str, str]:
    """Return the value of each key of a listed job.

    Raises:
        ConfigError: several values for a key, or none.
    """
    parsed = OverridesParser.create().parse_overrides(line.split())
    if not parsed or any(override.is_sweep_override() or override.is_delete() for override in parsed):
        raise ConfigError(f"sweep.jobs: {line}: a job has one value for each key")
    return {override.get_key_element(): override.get_value_element_as_str() for override in parsed}
