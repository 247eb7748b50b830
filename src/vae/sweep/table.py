"""Many runs as one table: of sweeps and single runs, with evaluations, means over seeds, and paired tests."""

import glob
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import t as student

from vae.checks import ConfigError, check_choice, check_number
from vae.metric.definition import definition
from vae.run.directory import RunDirectory
from vae.run.files import read_json
from vae.run.saved_config import check_plain, read_evaluations
from vae.sweep.comparable import scored_by
from vae.sweep.directory import SweepDirectory
from vae.sweep.plan import NEUTRAL
from vae.sweep.results import axis_name, keys_as_numbers

Values = tuple[Any, ...]
"""What a row of means is of: `compares`, and the values of all keys but the one that it is over."""
FORMS = ("markdown", "latex", "csv")
COLUMNS = ("run", "compares")
"""What a row has beside keys and numbers: its directory, and what its bound is of."""


def table(*where: str | Path) -> pd.DataFrame:
    """Return a row for each finished run: its directory, the keys in which the runs differ, and its numbers.

    Args:
        *where: directories of sweeps and of single runs, or patterns of them, such as `runs/mnist/sweep_*`;
            `last` is the newest sweep below ./runs. Files of `python -m vae.baselines` give a row for each model.

    Returns:
        `run`; `compares`, the images and the kind of likelihood, within which bounds compare; a column for each
        key that was typed and is not the same in all rows; the numbers of metrics.json; those of evaluation.json
        as `evaluation/nll`, … (of evaluation_val.json as `evaluation_val/nll`, …)

    Raises:
        ConfigError: a pattern leads to no run or sweep, or no run is finished.
    """
    rows, typed, numbers = list[dict[str, Any]](), list[Mapping[str, str]](), list[Mapping[str, float | None]]()
    for folder, keys in _runs(where):
        run = RunDirectory(folder)
        if not run.is_complete():
            continue
        kind = scored_by(folder)
        rows.append({"run": str(folder), "compares": "" if kind is None else str(kind)})
        typed.append(keys)
        numbers.append(run.metrics() | read_evaluations(folder))
    for file, compares, model in _baselines(where):
        rows.append({"run": str(file), "compares": compares})
        typed.append({"model": str(model.pop("model"))})
        numbers.append(model | {f"evaluation/{key.rpartition('/')[2]}": model[key] for key in model if "/" in key})
    if not rows:
        raise ConfigError(f"{', '.join(map(str, where))}: no run there is finished")
    known = {key: None for each in typed for key in each if not key.startswith(NEUTRAL)}
    differ = [key for key in known if len({each.get(key) for each in typed}) > 1]
    named = [row | {key: own.get(key) for key in differ} for row, own in zip(rows, typed, strict=True)]
    frame = pd.DataFrame([{**row, **found} for row, found in zip(named, numbers, strict=True)])
    keys_as_numbers(frame, differ)
    return frame.convert_dtypes()


def _runs(where: Sequence[str | Path]) -> Iterator[tuple[Path, dict[str, str]]]:
    """Yield each run's directory, and the keys that were typed for it with their values."""
    for pattern in where:
        if str(pattern) == "last":
            pattern = SweepDirectory("last").path
        folders = sorted(Path(found) for found in glob.glob(str(Path(pattern).expanduser())))
        if not folders:
            raise ConfigError(f"{pattern}: there is no such directory")
        for folder in folders:
            if folder.suffix == ".json":
                continue
            sweep = SweepDirectory(folder)
            if sweep.manifest_file.exists():
                shared = _typed(sweep.manifest()["constants"])
                for job in sweep.jobs():
                    yield folder / job.name, shared | {axis_name(key): value for key, value in job.values.items()}
            else:
                yield folder, _typed(RunDirectory(folder).arguments())


def _baselines(where: Sequence[str | Path]) -> Iterator[tuple[Path, str, dict[str, Any]]]:
    """Yield the file of each model of `vae.baselines`, what its bound is of, its name and its numbers."""
    for pattern in where:
        for path in sorted(Path(found) for found in glob.glob(str(Path(pattern).expanduser()))):
            if path.suffix == ".json":
                content = read_json(path) or {}
                check_plain(content, path, resolved=False)
                models = content.get("models")
                if not isinstance(models, list) or not all("model" in each for each in models):
                    raise ConfigError(f"{path}: not what vae.baselines writes")
                for model in models:
                    yield path, str(content.get("compares")), model


def _typed(arguments: Sequence[str]) -> dict[str, str]:
    pairs = (argument.lstrip("+").partition("=") for argument in arguments if not argument.startswith(("-", "~")))
    return {axis_name(key): value for key, _, value in pairs if not key.startswith("hydra")}


def keys_of(frame: pd.DataFrame) -> list[str]:
    """Return the columns of `table` that are keys."""
    numbers = ("epochs", "steps", "best_step", "parameters", "seconds")
    return [name for name in frame if name not in (*COLUMNS, *numbers) and "/" not in name]


class Mean(NamedTuple):
    """A mean over runs, half the width of its confidence interval (Student's t; NaN for one run), and how many."""

    mean: float
    half_width: float
    n: int


def means(frame: pd.DataFrame, metric: str, over: str = "seed", level: float = 0.95) -> dict[Values, Mean]:
    """Return the means over the runs that differ in one key only, by the values of the others.

    Args:
        frame: as `table` returns it.
        metric: a column of numbers.
        over: the key over which the means are.
        level: of the confidence intervals.

    Raises:
        ConfigError: no run has such a number.
    """
    found = {}
    for values, group in _groups(frame, metric, over):
        n, deviation = len(group), group[metric].std()
        factor = student.ppf((1 + level) / 2, n - 1) / math.sqrt(n) if n > 1 else math.nan
        found[values] = Mean(float(group[metric].mean()), float(factor * deviation) if n > 1 else math.nan, n)
    return found


def _groups(frame: pd.DataFrame, metric: str, over: str) -> list[tuple[Values, pd.DataFrame]]:
    if metric not in frame or metric in (*COLUMNS, *keys_of(frame)):
        there = ", ".join(name for name in frame if "/" in name)
        raise ConfigError(f"measure={metric}: must be one of {there}")
    others = ["compares", *(key for key in keys_of(frame) if key != over)]
    groups = frame.dropna(subset=[metric]).groupby(others, sort=False, dropna=False)
    # None where a run lacks a key: of pandas' NA nothing is known, not even whether it is another.
    return [(tuple(None if pd.isna(value) else value for value in values), group) for values, group in groups]


class Against(NamedTuple):
    """The best row against another: the mean difference of their pairs, half its interval's width, Holm's p."""

    difference: float
    half_width: float
    p: float


def against_the_best(
    frame: pd.DataFrame, metric: str, over: str = "seed", level: float = 0.95
) -> dict[Values, Against | None]:
    """Return the paired t-test of the best row against each other that it compares with; None for the best itself.

    Pairs are runs with the same value of `over`. Of all tests within what compares, the p-values are Holm's
    (1979), so that the best of many is not called so by chance. Without two pairs there is no test, and p is NaN.

    Args:
        frame: as `table` returns it.
        metric: a column of numbers, of which it is known whether more is better.
        over: the key whose values make the pairs.
        level: of the confidence intervals.

    Raises:
        ConfigError: no run has such a number.
    """
    found: dict[Values, Against | None] = {}
    groups = dict(_groups(frame, metric, over))
    sign = -1 if definition(metric.rpartition("/")[2]).better == "lower" else 1
    for compares in dict.fromkeys(values[0] for values in groups):
        rows = {values: group for values, group in groups.items() if values[0] == compares}
        best = max(rows, key=lambda values: sign * rows[values][metric].mean())
        tests = {
            values: _paired(rows[best], rows[values], metric, over, level) for values in rows if values != best
        }
        found |= {best: None, **_holm(tests)}
    return found


def _paired(best: pd.DataFrame, other: pd.DataFrame, metric: str, over: str, level: float) -> Against:
    nothing = Against(math.nan, math.nan, math.nan)
    if over not in best:
        return nothing
    pairs = best[[over, metric]].merge(other[[over, metric]], on=over).dropna()
    if len(pairs) < 2:
        return nothing
    differences = (pairs[f"{metric}_x"] - pairs[f"{metric}_y"]).astype(float)
    freedom, mean, error = len(pairs) - 1, differences.mean(), differences.std() / math.sqrt(len(pairs))
    if error == 0:
        return Against(mean, 0.0, float(mean == 0))
    return Against(mean, error * student.ppf((1 + level) / 2, freedom), 2 * student.sf(abs(mean) / error, freedom))


def _holm(tests: Mapping[Values, Against]) -> dict[Values, Against]:
    """Return the same with p-values that hold for all of them together."""
    known = sorted((each.p, values) for values, each in tests.items() if not math.isnan(each.p))
    adjusted, least = {}, 0.0
    for place, (p, values) in enumerate(known):
        least = max(least, min(1.0, (len(known) - place) * p))
        adjusted[values] = least
    return {values: each._replace(p=adjusted.get(values, math.nan)) for values, each in tests.items()}


def text(
    frame: pd.DataFrame, metrics: Sequence[str], form: str = "markdown", over: str = "seed", level: float = 0.95
) -> str:
    """Return a table of means for a paper; in bold what is better than all it compares with, by the test.

    Args:
        frame: as `table` returns it.
        metrics: columns of numbers.
        form: `markdown`, `latex` (booktabs) or `csv`, which has means, half-widths and p-values apart and no bold.
        over: the key over which the means are.
        level: of the intervals, and 1 − that of the tests.

    Raises:
        ConfigError: no run has such numbers; another form; a level below 0.5 or above 0.9999.
    """
    check_choice("format", form, FORMS)
    check_number("level", level, minimum=0.5, maximum=0.9999)
    by_metric = {name: means(frame, name, over, level) for name in metrics}
    tests = {name: against_the_best(frame, name, over, level) for name in metrics}
    others = [key for key in keys_of(frame) if key != over]
    several = frame["compares"].nunique() > 1
    rows = []
    for values in dict.fromkeys(values for found in by_metric.values() for values in found):
        row = dict(zip(("of", *others), ("" if pd.isna(v) else v for v in values), strict=True))
        if not several:
            del row["of"]
        for name, found in by_metric.items():
            row |= _cells(name, found.get(values), tests[name], values, form, level)
        rows.append(row)
    shown = pd.DataFrame(rows)
    if form == "csv":
        return shown.to_csv(index=False)
    if form == "latex":
        return _latex(shown)
    return _markdown(shown)


def _cells(
    name: str,
    mean: Mean | None,
    tests: Mapping[Values, Against | None],
    values: Values,
    form: str,
    level: float,
) -> dict[str, Any]:
    if mean is None:
        return {name: ""}
    test = tests[values]
    if form == "csv":
        p = None if test is None else test.p
        return {name: mean.mean, f"{name} ±": mean.half_width, f"{name} n": mean.n, f"{name} p": p}
    rivals = [each for other, each in tests.items() if other[0] == values[0] and other != values]
    is_best = test is None and bool(rivals) and all(each is not None and each.p < 1 - level for each in rivals)
    number = _rounded(mean)
    return {name: ("**%s**" if form == "markdown" else r"$\mathbf{%s}$") % number if is_best else number}


def _rounded(mean: Mean) -> str:
    """To two digits of the half-width: `-85.31 ± 0.24`; five digits where there is none."""
    if not math.isfinite(mean.half_width) or mean.half_width == 0:
        return f"{mean.mean:.5g}"
    digits = max(0, 1 - math.floor(math.log10(mean.half_width)))
    return f"{mean.mean:.{digits}f} ± {mean.half_width:.{digits}f}"


def _markdown(shown: pd.DataFrame) -> str:
    rows = [list(shown.columns), ["---"] * len(shown.columns), *shown.astype(str).to_numpy().tolist()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _latex(shown: pd.DataFrame) -> str:
    """With the rules of the package booktabs."""

    def row(cells: Sequence[object]) -> str:
        escaped = (str(cell).replace("_", r"\_").replace("%", r"\%").replace("±", r"$\pm$") for cell in cells)
        # Within bold numbers there is mathematics already.
        return " & ".join(each.replace(r" $\pm$ ", r" \pm ") if "mathbf" in each else each for each in escaped)

    body = "".join(f"{row(cells)} \\\\\n" for cells in shown.to_numpy().tolist())
    columns = "l" * len(shown.columns)
    return (
        f"\\begin{{tabular}}{{{columns}}}\n\\toprule\n{row(list(shown.columns))} \\\\\n\\midrule\n{body}"
        "\\bottomrule\n\\end{tabular}\n"
    )
