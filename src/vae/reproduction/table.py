"""A table to reproduce, as conf/reproduce has it."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae.checks import ConfigError, check_choice
from vae.paths import CONF

SCHEDULES = ("short", "full")


@dataclass(frozen=True)
class Row:
    """A line of the table: overrides of train.py, what is measured of that run, and what others found."""

    name: str
    job: str
    measure: str
    paper: float | None = None
    later: float | None = None


@dataclass(frozen=True)
class Table:
    """What is to be reproduced.

    title: of the page. rows: its lines, several of which may measure one run. also: further measures to be shown.
    train, evaluate: arguments of train.py and vae.evaluate for all runs. features: those of vae.features, if its
    network must be trained first.
    """

    name: str
    schedule: str
    title: str
    rows: list[Row]
    also: list[str] = field(default_factory=list)
    train: list[str] = field(default_factory=list)
    evaluate: list[str] = field(default_factory=list)
    features: list[str] = field(default_factory=list)

    def jobs(self, seeds: list[int]) -> list[str]:
        """Return the runs, each once: overrides with spaces in between."""
        return [f"{job} seed={seed}" for job in dict.fromkeys(row.job for row in self.rows) for seed in seeds]

    @property
    def stem(self) -> str:
        """What its files are called: the table's name stands for the full schedule."""
        return self.name if self.schedule == "full" else f"{self.name}_{self.schedule}"


def read_table(name: object, schedule: object, only: Sequence[str] | None = None) -> Table:
    """Return the table of that name under conf/reproduce, or in that YAML file, for a schedule; `only` some of
    its rows.

    Raises:
        ConfigError: there is none, or it lacks something.
    """
    schedule = check_choice("schedule", schedule, SCHEDULES)
    path = Path(str(name)) if str(name).endswith(".yaml") else CONF / "reproduce" / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in (CONF / "reproduce").glob("*.yaml")))
        raise ConfigError(f"table={name}: must be one of {known}, or a YAML file")
    config = OmegaConf.load(path)
    assert isinstance(config, DictConfig)
    config.suffix = "" if schedule == "full" else f"_{schedule}"
    try:
        found: Any = OmegaConf.to_container(config, resolve=True)
        rows = [
            Row(**{"measure": found["measure"], **{key: value for key, value in row.items() if key != "only"}})
            for row in [*found.get("rows", []), *_combinations(found.get("grid", {}))]
            if row.get("only", schedule) == schedule
        ]
        unknown = {*(only or [])} - {row.name for row in rows}
        if unknown:
            raise ConfigError(f"rows={only}: must be of {', '.join(row.name for row in rows)}")
        rows = [row for row in rows if only is None or row.name in only]
        train = [*found.get("train", []), *found.get(schedule, [])]
        lists = {key: found.get(key, []) for key in ("also", "evaluate", "features")}
        return Table(path.stem, schedule, found["title"], rows, train=train, **lists)
    except (KeyError, TypeError, OmegaConfBaseException) as error:
        raise ConfigError(f"{path}: not a table ({' '.join(str(error).split())})") from error


def _combinations(grid: dict[str, dict[str, str]]) -> list[dict[str, str]]:
    """Return a row for each combination of what the axes of a grid have: names of values, and their overrides."""
    if not grid:
        return []
    return [
        {"name": ", ".join(name for name, _ in chosen), "job": " ".join(job for _, job in chosen)}
        for chosen in itertools.product(*(axis.items() for axis in grid.values()))
    ]
