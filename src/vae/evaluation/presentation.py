"""The presentation of an evaluation: a table on the terminal, files in the run's directory, and its loggers."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from vae.checks import ConfigError
from vae.evaluation.result import Result
from vae.logger.run_logger import RunLogger
from vae.metric.definition import definition, position
from vae.page.page import page
from vae.picture.sheet import latent_name
from vae.run.directory import RunDirectory
from vae.run.files import to_json, write_atomically
from vae.training.build import present

STDERR = {"nll": "nll_stderr", "marginal_kl": "marginal_kl_stderr"}
COST = {
    "parameters": ("", "numbers that were trained"),
    "flops_per_image": ("", "of a reconstruction, 2 for a multiplication with its addition"),
    "images_per_second": ("", "reconstructed, on the device below"),
    "peak_memory_mib": ("MiB", "of the device, or of the whole process on a CPU"),
    "device": ("", ""),
}


class Group:
    """Results side by side, with the measures that are comparable among them.

    Args:
        title: what the results have in common.
        results: the results.
        measures: the names of the numbers, without the split.
        cost: whether to show what the models cost, too.
    """

    def __init__(self, title: str, results: Sequence[Result], measures: Sequence[str], cost: bool):
        self.title, self.results, self.measures = title, results, measures
        self.costs = list(COST) if cost else []

    def rows(self) -> Iterator[tuple[str, list[str], str, str]]:
        """Yield, for each measure, its name, its number in each result, its unit and its meaning."""
        for name in self.measures:
            unit, meaning, better, _ = definition(name)
            cells = [shown(result, name) for result in self.results]
            yield name, cells, unit, f"{meaning} ({better} is better)" if better else meaning
        for name in self.costs:
            found = [result.cost.get(name, "–") for result in self.results]
            cells = [f"{value:,.7g}" if isinstance(value, int | float) else str(value) for value in found]
            yield name, cells, *COST[name]


def groups(results: Sequence[Result]) -> list[Group]:
    """Return the results in groups with comparable measures.

    Results with the same images and the same kind of likelihood form one group with all measures. If the kinds of
    the likelihoods differ, all runs of the same images form a group with the measures that do not depend on the
    kind. After it comes a group for each kind, with the measures in nats of that likelihood.
    """
    kinds = list(dict.fromkeys(result.scored for result in results))
    if len(kinds) == 1:
        return [Group(str(kinds[0]), results, measures(results), cost=True)]
    found = []
    for images in dict.fromkeys(kind.images for kind in kinds):
        of = [result for result in results if result.scored.images == images]
        own = [kind for kind in kinds if kind.images == images]
        names = [name for name in measures(of) if len(own) == 1 or not definition(name).of_likelihood]
        found.append(Group(str(own[0]) if len(own) == 1 else images, of, names, cost=True))
        for kind in own if len(own) > 1 else []:
            alike = [result for result in of if result.scored == kind]
            names = [name for name in measures(alike) if definition(name).of_likelihood]
            found.append(Group(str(kind), alike, names, cost=False))
    return found


def table(group: Group, title: str | None = None) -> Table:
    """Return a table with a row for each measure and a column for each run."""
    drawn = Table(title=title)
    drawn.add_column("measure")
    drawn.add_column("unit", style="dim")
    for name in short_names(group.results):
        drawn.add_column(name, justify="right", overflow="fold")
    for name, cells, unit, _ in group.rows():
        if name != "device":
            drawn.add_row(name, unit, *cells)
    return drawn


def print_report(results: Sequence[Result]) -> None:
    """Print a table of each group, and the notes below it."""
    # If the output goes to a program and not to a terminal, Rich would cut the table at 80 columns.
    wide = None if Console().is_terminal else max(100, 40 + 24 * len(results))
    console = Console(width=wide, markup=False)
    parts = groups(results)
    for group in parts:
        about = f"{group.title}; " if len(parts) > 1 else ""
        shared = {describe(result) for result in group.results}
        console.print(table(group, f"{about}{shared.pop()}" if len(shared) == 1 else about.rstrip("; ") or None))
    for name, result in zip(short_names(results), results, strict=True):
        for note in result.notes:
            console.print(f"{name}: {note}", markup=False, highlight=False, soft_wrap=True)
    for note in joint_notes(results):
        console.print(note, markup=False, highlight=False, soft_wrap=True)


def describe(result: Result) -> str:
    """Return a text on what was evaluated."""
    return f"{result.data}, {result.split}, {result.images:,} images, checkpoint {result.checkpoint}"


def joint_notes(results: Sequence[Result]) -> Iterator[str]:
    """Yield what a reader who compares the runs must know."""
    if len({result.scored for result in results}) > 1:
        yield "these runs have different images or kinds of likelihood, whose bounds do not compare: so the groups"
    draws = sorted({k for result in results if (k := result.number("nll_k")) is not None})
    if len(draws) > 1:
        yield f"nll is from {draws[0]:g} to {draws[-1]:g} draws: with fewer it is larger; these do not compare"


def measures(results: Sequence[Result]) -> list[str]:
    """Return the names of all numbers, without the split, in the order of the definitions.

    Standard errors are left out, because they are shown beside their numbers.
    """
    beside = {"mutual_information_exact", "loss", *STDERR.values()}
    names = {name.partition("/")[2] for result in results for name in result.metrics} - beside
    kid_errors = {name for name in names if name.startswith("kid_") and name.endswith("_stderr")}
    return sorted(names - kid_errors, key=position)


def shown(result: Result, measure: str) -> str:
    """Return a number with its standard error."""
    value = result.number(measure)
    if value is None:
        return "–"
    error = result.number(STDERR.get(measure, f"{measure}_stderr"))
    whole = definition(measure).unit in ("draws", "latents") and value == round(value)
    text = f"{value:,.0f}" if whole else f"{value:,.4g}" if abs(value) < 100 else f"{value:,.2f}"
    if error is None or error != error:
        return text
    return f"{text} ± {error:,.0f}" if error >= 100 else f"{text} ± {error:.2g}"


def short_names(results: Sequence[Result]) -> list[str]:
    """Return the last part of each run's path, or the whole paths if some last parts are the same."""
    names = [Path(result.run).name for result in results]
    return names if len(set(names)) == len(names) else [result.run for result in results]


def html(results: Sequence[Result]) -> str:
    """Return a page of one or more results, in one file that needs no other file."""
    title = f"Evaluation of {results[0].run}" if len(results) == 1 else f"Evaluation of {len(results)} runs"
    names = short_names(results)
    named = list(zip(names, results, strict=True))
    notes = [f"{name}: {note}" if len(results) > 1 else note for name, r in named for note in r.notes]
    data: dict[str, Any] = {
        "title": title,
        "runs": [{"name": name, "about": f"{describe(r)}, {r.scored.kind}, seed {r.seed}"} for name, r in named],
        "remarks": [{"kind": "note", "text": note} for note in [*notes, *joint_notes(results)]],
        "groups": [
            {"title": group.title, "names": short_names(group.results), "rows": list(group.rows())}
            for group in groups(results)
        ],
        "latents": [
            {"name": name, "rates": rates, "names": [latent_name(d) for d in range(len(rates))]}
            for name, r in named
            if (rates := r.per_latent.get(f"{r.split}/rate_per_latent"))
        ],
    }
    return page(title, "evaluation", data)


def places(results: Sequence[Result], out: str | None) -> list[Path]:
    """Return the folder for the files of each result: the run's directory, or one below `out`."""
    if out is None:
        return [Path(result.run) for result in results]
    if len(results) == 1:
        return [Path(out)]
    return [Path(out, name.strip("/").replace("/", "_")) for name in short_names(results)]


def save(result: Result, config: DictConfig, folder: Path) -> Path:
    """Write evaluation.json and evaluation.html, add the numbers to the loggers, and return the page's path.

    If the split is not the test split, the names of the files also have the split, so that one evaluation does not
    overwrite another. If the folder is not the run's, nothing is added to the run.

    Raises:
        ConfigError: the folder cannot be written.
    """
    stem = "evaluation" if result.split == "test" else f"evaluation_{result.split}"
    if config.get("data") is not None:
        stem += f"_{result.data}"
    page = folder / f"{stem}.html"
    try:
        write_atomically(folder / f"{stem}.json", to_json(asdict(result), indent=2) + "\n")
        write_atomically(page, html([result]))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror}); out=… writes elsewhere") from error
    if config.log and config.out is None:
        add_to_loggers(result, stem)
    return page


def save_comparison(results: Sequence[Result], folders: Sequence[Path]) -> list[Path]:
    """Write one page for several runs: comparison.html, in the folder that contains theirs.

    For a single run, write nothing.
    """
    if len(results) < 2:
        return []
    page = Path(os.path.commonpath([folder.absolute() for folder in folders])) / "comparison.html"
    write_atomically(page, html(results))
    return [page]


def add_to_loggers(result: Result, prefix: str) -> None:
    """Add the numbers to what the run's loggers have of it: its runs in W&B and MLflow, its TensorBoard."""
    numbers = {f"{prefix}/{name.partition('/')[2]}": value for name, value in result.metrics.items()}
    for logger in present(instantiate(RunDirectory(result.run).loggers())):
        if isinstance(logger, RunLogger):
            logger.add_evaluation(numbers)
            logger.finish()
