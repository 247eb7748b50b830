"""docs/images/growth.png, from benchmarks/results/growth.json and the results of the lines with several ranks."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "growth.png"
Points = list[dict[str, float]]


def draw(found: dict[str, Any], ranks: dict[str, float] | None) -> None:
    """Draw all panels.

    Args:
        found: the lines of `benchmarks.growth`.
        ranks: images per second of `conv_64_ddp`, if that has been measured.
    """
    figure = Figure(figsize=(9, 5), dpi=110, layout="constrained")
    panels = figure.subplots(2, 3).flat
    names = {"draws": "all draws at once", "draws, objective.chunk=5": "objective.chunk=5"}
    of_draws = {name: found[line] for line, name in names.items()}
    draws, side = "draws k (784-200-200-50, IWAE)", "side of a 3-channel image, pixels (conv)"
    latents, images = "latent size D (784-400-D)", "training images (784-64-20)"
    _lines(next(panels), of_draws, "k", "milliseconds", draws, "ms per step of 100 images")
    _lines(next(panels), of_draws, "k", "mebibytes", draws, "MiB allocated in a step")
    _lines(next(panels), {"": found["latent_size"]}, "latent_size", "milliseconds", latents, "ms per step of 128")
    _lines(next(panels), {"": found["side"]}, "side", "milliseconds", side, "ms per step of 32 images")
    _lines(next(panels), {"": found["images"]}, "images", "microseconds", images, "µs per image")
    if ranks is not None:
        _ranks(next(panels), ranks)
    for unused in panels:
        unused.set_axis_off()
    figure.savefig(PICTURE)


def _lines(axes: Axes, lines: dict[str, Points], x: str, y: str, x_label: str, y_label: str) -> None:
    for (name, points), style in zip(lines.items(), ("o-", "s--"), strict=False):
        axes.plot([p[x] for p in points], [p[y] for p in points], style, markersize=3.5, linewidth=1.2, label=name)
    ticks = [p[x] for p in next(iter(lines.values()))]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(ticks, [f"{tick:,}" if tick < 10_000 else f"{tick / 1000:g}k" for tick in ticks])
    lowest, highest = axes.get_ylim()
    axes.set_ylim(min(lowest, 0.25 * highest), highest * 1.2)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter("{x:,g}")
    axes.minorticks_off()
    _label(axes, x_label, y_label)
    if len(lines) > 1:
        axes.legend(fontsize=7)


def _ranks(axes: Axes, speed: dict[str, float]) -> None:
    axes.bar(["1", "2", "2, bare DDP"], [speed["one_process"], speed["framework"], speed["bare_ddp"]], width=0.6)
    _label(axes, "processes of one thread (conv, 3×64×64)", "images per second")


def _label(axes: Axes, x_label: str, y_label: str) -> None:
    axes.set_xlabel(x_label, fontsize=8)
    axes.set_ylabel(y_label, fontsize=8)
    axes.tick_params(labelsize=7)
    axes.grid(alpha=0.3, linewidth=0.5)
