"""The tables of docs/performance.md, from benchmarks/results/*.json. The page itself says what is measured."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import growth_figure, stacked

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
GOALS = {
    ("mlp_128", "bare"): 0.93,
    ("mlp_128", "pythae"): 1.5,
    ("mlp_128", "textbook"): 4.0,
    ("mlp_128, compile=true", "bare"): 1.0,
    ("mlp_512", "bare"): 0.98,
    ("burda_iwae_50", "bare"): 0.98,
    ("conv_64", "bare"): 0.98,
}
Found = dict[str, Any]
Row = Sequence[str]


def render() -> None:
    """Write the tables between the page's two marks, and the pictures."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    if "growth" in found:
        ranks = found.get("conv_64_ddp", {}).get("found", {}).get("images_per_second")
        growth_figure.draw(found["growth"]["found"], ranks)
    if "stacked" in found:
        stacked.draw(found["stacked"]["found"])
    text = PAGE.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{tables(found)}\n{END}{after}", encoding="utf-8")


def tables(found: Found) -> str:
    """Return all measurements as Markdown."""
    against = [row for name, one in found.items() for row in _against(name, one["found"])]
    others = [row for name, rows in OTHERS.items() if name in found for row in rows(found[name]["found"])]
    speed = ("workload", "threads", "framework, images/s", "against", "images/s", "framework ÷ it", "goal")
    return "\n\n".join(
        [_table(speed, against), _table(("line", "measured", "goal"), others), *_circumstances(found)]
    )


def _table(head: Row, rows: Sequence[Row]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def _spread(spread: Found, form: str = ".2f") -> str:
    """Median, least and most."""
    return f"{spread['median']:{form}} ({spread['least']:{form}}–{spread['most']:{form}})"


def _judged(value: float, least: float | None = None, most: float | None = None, form: str = "") -> str:
    """A goal, and whether it was met."""
    goal = f"≥ {least:{form}}" if least is not None else f"≤ {most:{form}}"
    met = value >= least if least is not None else most is not None and value <= most
    return f"{goal}: {'met' if met else 'missed'}"


def _against(name: str, found: Found) -> Iterator[Row]:
    for whose, label in (("framework", name), ("compiled", f"{name}, compile=true")):
        for other, ratio in found.get(f"{whose}_over", {}).items():
            goal, speed = GOALS.get((label, other)), found["images_per_second"]
            judged = "" if goal is None else _judged(ratio["median"], least=goal)
            speeds = f"{speed[whose]:,}", other, f"{speed[other]:,}"
            yield label, str(found["threads"]), *speeds, _spread(ratio), judged


def _own_time(found: Found) -> Iterator[Row]:
    own = found["own_milliseconds"]
    yield "own_time: a step, ms", _spread(own), _judged(own["median"], most=0.15)
    yield "own_time: a second plain loop, ms", _spread(found["control_milliseconds"]), "0"


def _data_wait(found: Found) -> Iterator[Row]:
    for name, share in found.items():
        goal = _judged(share["median"], most=0.01, form=".0%") if name == "conv_64" else ""
        yield f"data_wait: {name}", _spread(share, ".1%"), goal


def _likelihood(found: Found) -> Iterator[Row]:
    case = f"likelihood: {found['images']:,} images, k = {found['k']:,}"
    products = found["nll_over_products"]
    yield f"{case}: µs an image and draw", f"{found['nll_microseconds']:.2f}", ""
    yield f"{case}: ÷ its decoder's products", f"{products:.2f}", _judged(products, most=1.15)
    yield f"{case}: as fast as single images, ×", f"{found['naive_over_nll']:.1f}", ""
    for name, peak in found["peak_mebibytes"].items():
        yield f"likelihood: peak of the process, {name}, MiB", f"{peak:,.0f}", ""


def _memory(found: Found) -> Iterator[Row]:
    allocated, process = found["allocated"], found["process"]
    plain = {"burda_iwae_50, objective.chunk=5": "burda_iwae_5", "conv_iwae_32, objective.chunk=4": "conv_iwae_4"}
    for case in allocated:
        figures = f"{allocated[case]:,.1f}; {process[case]:,.0f}"
        goal = ""
        if case in plain:
            ratio = allocated[case] / allocated[plain[case]]
            goal = f"≤ 1.2 × {plain[case]}: {ratio:.2f}; {process[case] / process[plain[case]]:.2f}"
        yield f"memory: {case}: allocated in a step; peak of the process, MiB", figures, goal


def _startup(found: Found) -> Iterator[Row]:
    yield "startup: --help, s", f"{found['help']:.1f}", _judged(found["help"], most=3)
    yield "startup: first step, s", f"{found['first_step']:.1f}", _judged(found["first_step"], most=6)


def _eight_jobs(found: Found) -> Iterator[Row]:
    for way, seconds in found["seconds"].items():
        yield f"eight_jobs: {way}, s; × commands", f"{seconds:.0f}; {found['commands_over'].get(way, 1):.1f}", ""


def _stacked(found: Found) -> Iterator[Row]:
    for way, goal in (("basic", 3), ("joblib", 2)):
        over = found["over_stacked"][way]
        seconds = f"{found['seconds'][way]:.0f} and {found['seconds']['stacked']:.0f} s"
        yield (
            f"stacked: 18 jobs, {way} ÷ stacked",
            f"{_spread(over)}; {seconds}",
            _judged(over["median"], least=goal),
        )
    for model, by_members in found["steps"].items():
        for members, step in by_members.items():
            figures = f"{step['milliseconds']:.2f} ms; {_spread(step['alone_over'])} × as fast as one by one"
            memory = f"{step['weights_mebibytes']:.1f} and {step['allocated_mebibytes']:.1f} MiB"
            yield f"stacked: {model}, {members} members: a step; weights, allocated", f"{figures}; {memory}", ""


def _precision(found: Found) -> Iterator[Row]:
    for trained, evaluated in found["nll"].items():
        figures = "; ".join(f"{nll:.3f} in {name}" for name, nll in evaluated.items())
        yield f"precision: nll, trained in {trained}, evaluated", figures, ""


OTHERS: dict[str, Callable[[Found], Iterator[Row]]] = {
    "own_time": _own_time,
    "data_wait": _data_wait,
    "likelihood": _likelihood,
    "memory": _memory,
    "startup": _startup,
    "eight_jobs": _eight_jobs,
    "stacked": _stacked,
    "precision": _precision,
}


def _circumstances(found: Found) -> Iterator[str]:
    """A line on each machine with its libraries, and on what was measured there at each commit."""
    places: dict[str, dict[str, list[str]]] = {}
    for name, result in found.items():
        versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
        commits = places.setdefault(f"{result['machine']}, {versions}", {})
        commits.setdefault(result["commit"], []).append(name)
    for place, commits in sorted(places.items()):
        at = "; ".join(f"{commit} ({', '.join(names)})" for commit, names in sorted(commits.items()))
        yield f"Measured on {place}, at the commits {at}."
