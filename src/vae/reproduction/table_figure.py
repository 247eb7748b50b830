"""A table as a picture: results/<table>.png."""

from typing import TYPE_CHECKING, Any

from vae.reproduction.comparison import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PUBLISHED = {"paper": ("D", "the paper's"), "later": ("s", "later ones'")}
WIDE = 30
"""The ratio of the largest to the smallest number, all positive, above which the axis is logarithmic."""


def table_figure(found: Found) -> "Figure":
    """Return a figure of every row's numbers, with one mark for each seed, beside the published numbers.

    If the measure is the NLL, a second panel shows how it falls with the number of draws. This panel shows the
    difference between k inside the logarithm and k outside. A bound with k inside is at its best with many draws.
    It may be poor with one draw, because q(z|x) was not trained to be good with one.
    """
    from matplotlib.figure import Figure

    colors = _colors(len(found["rows"]))
    firsts = [(color, row["runs"][0].get("nll_at")) for color, row in zip(colors, found["rows"], strict=True)]
    curves = [(color, nll_at) for color, nll_at in firsts if nll_at]
    height = max(2.2, 0.22 * len(found["rows"]) + 0.9)
    figure = Figure(figsize=(6.5 if curves else 4.5, height), dpi=150, layout="constrained")
    panels = figure.subplots(1, 2 if curves else 1, squeeze=False)[0]
    _draw_rows(panels[0], found, colors)
    if panels[0].get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", ncols=2, fontsize=7, frameon=False)
    if curves:
        _draw_curves(panels[1], curves)
    return figure


def _colors(rows: int) -> list[Any]:
    """Return a colour for each row. The colours differ if there are at most 20 rows."""
    from matplotlib import colormaps

    map_, size = (colormaps["tab10"], 10) if rows <= 10 else (colormaps["tab20"], 20)
    return [map_(place % size) for place in range(rows)]


def _draw_rows(axes: "Axes", found: Found, colors: list[Any]) -> None:
    rows = found["rows"]
    for place, row in enumerate(rows):
        for run in row["runs"]:
            if run.get("value") is not None:
                axes.errorbar(run["value"], place, xerr=run["stderr"], fmt="o", color=colors[place], ms=4)
    for key, (marker, label) in PUBLISHED.items():
        known = [(row[key], place) for place, row in enumerate(rows) if row[key] is not None]
        if known:
            axes.plot(*zip(*known, strict=True), marker, color="0.5", ms=4, mfc="none", label=label)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=7)
    values = [run["value"] for row in rows for run in row["runs"] if run.get("value") is not None]
    if values and min(values) > 0 and max(values) > WIDE * min(values):
        axes.set_xscale("log")
    axes.invert_yaxis()
    axes.grid(axis="x", linewidth=0.3)
    axes.tick_params(axis="x", labelsize=7)
    units = {"nll": "nll, nats per image"}
    axes.set_xlabel(
        ", ".join(units.get(name, name) for name in dict.fromkeys(r["measure"] for r in rows)), fontsize=8
    )


def _draw_curves(axes: "Axes", curves: list[tuple[Any, dict[str, Any]]]) -> None:
    for color, at in curves:
        draws = sorted(at, key=int)
        axes.plot([int(k) for k in draws], [at[k] for k in draws], ".-", color=color, linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("draws in the estimate of log p(x)", fontsize=8)
    axes.set_ylabel("nats per image", fontsize=8)
    axes.grid(linewidth=0.3)
    axes.tick_params(labelsize=7)
