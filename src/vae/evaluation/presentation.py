"""How an evaluation is told: in a table on the terminal, in files beside the run, and in its W&B run."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from html import escape
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from vae.evaluation.result import Result
from vae.metric.definition import definition, position
from vae.picture.sheet import latent_name
from vae.run.directory import RunDirectory
from vae.run.files import to_json, write_atomically

STDERR = {"nll": "nll_stderr", "marginal_kl": "marginal_kl_stderr"}
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2433 }
h1 { font-size: 1.4rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid #dde1ea; vertical-align: top }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
th.number { text-align: right; overflow-wrap: anywhere }
.note { background: #fff4d6; border-left: 4px solid #e0a100; padding: .5rem .8rem; margin: .5rem 0 }
.meaning, .unit { color: #5b6475; font-size: .9em }
svg text { font: 11px system-ui, sans-serif; fill: #5b6475 }
"""


def table(results: Sequence[Result]) -> Table:
    """All numbers of all results: a row for each measure, a column for each run."""
    first = results[0]
    title = f"{first.data}, {first.split}, {first.images:,} images, checkpoint {first.checkpoint}"
    drawn = Table(title=title if len({_about(r) for r in results}) == 1 else None)
    drawn.add_column("measure")
    drawn.add_column("unit", style="dim")
    for name in short_names(results):
        drawn.add_column(name, justify="right", overflow="fold")
    for measure in measures(results):
        drawn.add_row(measure, definition(measure).unit, *(shown(result, measure) for result in results))
    for key in ("parameters", "flops_per_image", "images_per_second", "peak_memory_mib"):
        drawn.add_row(key, "", *(f"{result.cost[key]:,.0f}" if result.cost else "–" for result in results))
    return drawn


def print_report(results: Sequence[Result]) -> None:
    """The table, and below it the notes."""
    # Rich would cut a table that is read by a program, not by a person, at 80 columns.
    console = Console() if Console().is_terminal else Console(width=max(100, 40 + 24 * len(results)))
    console.print(table(results))
    for name, result in zip(short_names(results), results, strict=True):
        for note in result.notes:
            console.print(f"{name}: {note}", markup=False, highlight=False, soft_wrap=True)


def _about(result: Result) -> tuple[object, ...]:
    return result.data, result.split, result.images, result.checkpoint


def measures(results: Sequence[Result]) -> list[str]:
    """The names of all numbers, without the split, in the order of the definitions; standard errors go beside."""
    beside = {"mutual_information_exact", "loss", *STDERR.values()}
    names = {name.partition("/")[2] for result in results for name in result.metrics} - beside
    kid_errors = {name for name in names if name.startswith("kid_") and name.endswith("_stderr")}
    return sorted(names - kid_errors, key=position)


def shown(result: Result, measure: str) -> str:
    """A number with its standard error."""
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
    """The last part of each run's path, or the whole paths where these are not told apart by it."""
    names = [Path(result.run).name for result in results]
    return names if len(set(names)) == len(names) else [result.run for result in results]


def html(results: Sequence[Result]) -> str:
    """A page of one or more results, in one file that needs no other."""
    first = results[0]
    title = f"Evaluation of {first.run}" if len(results) == 1 else f"Evaluation of {len(results)} runs"
    return "\n".join(
        [
            f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title>",
            f"<style>{STYLE}</style><h1>{escape(title)}</h1>",
            *_heading(results),
            *_notes(results),
            *_numbers(results),
            *(line for result in results for line in _latents(result)),
            "</html>",
        ]
    )


def _heading(results: Sequence[Result]) -> Iterator[str]:
    for name, r in zip(short_names(results), results, strict=True):
        yield (
            f"<p><b>{escape(name)}</b>: {escape(r.data)}, split {escape(r.split)}, {r.images:,} images,"
            f" checkpoint {escape(r.checkpoint)}, seed {r.seed}</p>"
        )


def _notes(results: Sequence[Result]) -> Iterator[str]:
    for name, result in zip(short_names(results), results, strict=True):
        for note in result.notes:
            yield f"<div class=note><b>{escape(name)}</b>: {escape(note)}</div>"


def _numbers(results: Sequence[Result]) -> Iterator[str]:
    heads = "".join(f"<th class=number>{escape(name)}</th>" for name in short_names(results))
    yield f"<h2>Numbers</h2><table><tr><th>measure</th>{heads}<th>unit</th><th>definition</th></tr>"
    for measure in measures(results):
        cells = "".join(f"<td class=number>{escape(shown(result, measure))}</td>" for result in results)
        unit, meaning, better = definition(measure)
        hint = f" ({better} is better)" if better else ""
        yield (
            f"<tr><td>{escape(measure)}</td>{cells}<td class=unit>{escape(unit)}</td>"
            f"<td class=meaning>{escape(meaning + hint)}</td></tr>"
        )
    for key in results[0].cost:
        cells = "".join(f"<td class=number>{escape(_cost(result, key))}</td>" for result in results)
        yield f"<tr><td>{escape(key)}</td>{cells}<td></td><td class=meaning>cost</td></tr>"
    yield "</table>"


def _cost(result: Result, key: str) -> str:
    value = result.cost.get(key, "–")
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _latents(result: Result) -> Iterator[str]:
    """The rate of each latent as bars, the largest first."""
    rates = result.per_latent.get(f"{result.split}/rate_per_latent")
    if not rates:
        return
    order = sorted(range(len(rates)), key=lambda d: -rates[d])
    width, height = max(6.0, min(40.0, 860 / len(rates))), 140
    top = max(rates) or 1.0
    yield f"<h2>Rate of each latent, {escape(Path(result.run).name)}</h2>"
    yield f"<svg viewBox='0 0 {60 + width * len(rates):.0f} {height + 40}' width='100%' role=img>"
    yield f"<text x=0 y=12>{top:.2f} nats</text><text x=0 y={height}>0</text>"
    for place, latent in enumerate(order):
        tall = max(0.0, rates[latent] / top * (height - 20))
        x, y = 60 + place * width, height - tall
        yield (
            f"<rect x={x:.1f} y={y:.1f} width={width * 0.8:.1f} height={tall:.1f} fill='#3366cc'>"
            f"<title>{latent_name(latent)}: {rates[latent]:.4f} nats</title></rect>"
        )
        if len(rates) <= 40:
            middle = x + width * 0.4
            yield f"<text x={middle:.1f} y={height + 14} text-anchor=middle>{latent_name(latent)}</text>"
    yield f"<text x=60 y={height + 34}>latent, sorted by KL(q(z_d|x)‖p(z_d))</text></svg>"


def save(result: Result, config: DictConfig) -> Path:
    """Write evaluation.json and evaluation.html into the run's directory, and add the numbers to its W&B run.

    The names have the split after them where it is not the test split, so that one does not overwrite another.
    Returns the page.
    """
    stem = "evaluation" if result.split == "test" else f"evaluation_{result.split}"
    if config.get("data") is not None:
        stem += f"_{result.data}"
    write_atomically(Path(result.run) / f"{stem}.json", to_json(asdict(result), indent=2) + "\n")
    page = Path(result.run) / f"{stem}.html"
    write_atomically(page, html([result]))
    if config.log_to_wandb:
        add_to_wandb(result, stem)
    return page


def save_comparison(results: Sequence[Result]) -> list[Path]:
    """For several runs: one page of all, comparison.html in the folder that holds them."""
    if len(results) < 2:
        return []
    page = Path(os.path.commonpath([Path(result.run).absolute() for result in results])) / "comparison.html"
    write_atomically(page, html(results))
    return [page]


def add_to_wandb(result: Result, prefix: str) -> None:
    """Add the numbers to the summary of the run's W&B run, online or offline as the run was.

    Offline this makes a further folder of the same id below the run's wandb/, which `wandb sync` joins.
    """
    settings = (RunDirectory(result.run).config().get("logger") or {}).get("wandb")
    if settings is None:
        return
    import wandb

    with wandb.init(
        project=settings.project,
        id=settings.id,
        name=settings.get("name"),
        dir=result.run,
        mode=settings.mode,
        resume="allow",
        settings=wandb.Settings(silent=True),
    ) as run:
        run.summary.update({f"{prefix}/{name.partition('/')[2]}": v for name, v in result.metrics.items()})
