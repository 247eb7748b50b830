"""How two runs differ: in their configs, where they come from, their images, and their numbers."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vae.run.directory import RunDirectory
from vae.run.resume import config_changes

OF_EACH = ("name", "resume", "trust", "open", "paths", "logger", "sweep")
"""Keys that are a run's own, and change nothing in it."""


class Row(NamedTuple):
    """What differs, and its value in each run; of numbers, how much."""

    what: str
    first: str
    second: str
    more: str = ""


def differences(first: RunDirectory, second: RunDirectory) -> list[Row]:
    """Return a line of titles, the keys that differ, the origins and images that do, and all numbers.

    Raises:
        ConfigError: one of them is no run, or its files are damaged.
    """
    configs = (first.config(), second.config())
    rows = [Row("", first.path.name, second.path.name, "second − first")]
    folders = [str(config.paths.run) for config in configs]
    for key, *values in config_changes(*configs):
        texts = [_in_full(value) for value in values]
        # What lies in the one's folder and in the other's is the same.
        within = {text.replace(folder, "…") for text, folder in zip(texts, folders, strict=True)}
        if key.partition(".")[0] not in OF_EACH and len(within) > 1:
            rows.append(Row(key, texts[0], texts[1]))
    origins = [{key: value for key, value in run.origin().items() if key != "command"} for run in (first, second)]
    rows += _unequal("origin", *origins)
    rows += _unequal("package", first.packages(), second.packages())
    rows += _unequal("images", first.image_digests(), second.image_digests())
    numbers = first.metrics(), second.metrics()
    for name in dict.fromkeys([*numbers[0], *numbers[1]]):
        rows.append(_numbers(name, numbers[0].get(name), numbers[1].get(name)))
    return rows


def _unequal(title: str, first: Mapping[str, Any], second: Mapping[str, Any]) -> Iterator[Row]:
    for name in dict.fromkeys([*first, *second]):
        if first.get(name) != second.get(name):
            yield Row(f"{title}: {name}", _in_full(first.get(name)), _in_full(second.get(name)))


def _in_full(value: Any) -> str:
    """Return a value as one would type it, however long."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _numbers(name: str, first: float | None, second: float | None) -> Row:
    more = "" if first is None or second is None else f"{second - first:+.6g}"
    shown = ["" if value is None else f"{value:.8g}" for value in (first, second)]
    return Row(name, shown[0], shown[1], more)
