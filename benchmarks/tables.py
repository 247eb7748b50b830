"""The tables of docs/performance.md, from benchmarks/results/*.json."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
GOALS = {
    ("mlp_128", "bare"): 0.93,
    ("mlp_128", "pythae"): 1.5,
    ("mlp_128", "textbook"): 4.0,
    ("mlp_512", "bare"): 0.98,
    ("burda_iwae_50", "bare"): 0.98,
    ("conv_64", "bare"): 0.98,
}


def render() -> None:
    """Write the tables between the page's two marks."""
    text = PAGE.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    PAGE.write_text(f"{before}{BEGIN}\n{tables()}\n{END}{after}")


def tables() -> str:
    """All that has been measured, as Markdown."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(RESULTS.glob("*.json"))}
    rows = [
        row for name, result in found.items() if "framework_over" in result["found"] for row in _rows(name, result)
    ]
    parts = [
        "| workload | threads | framework, images/s | against | images/s | framework ÷ it (least–most) | goal |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(rows)
    ]
    if "likelihood" in found:
        parts.append(_likelihood(found["likelihood"]["found"]))
    if "startup" in found:
        measured = found["startup"]["found"]
        parts.append(
            f"`python train.py --help` answers in {measured['help']:.1f} s (goal 3 s); the first step of the"
            f" default run is done after {measured['first_step']:.1f} s (goal 6 s)."
        )
    parts.append(_circumstances(found))
    return "\n\n".join(parts)


def _rows(name: str, result: dict[str, Any]) -> list[str]:
    found = result["found"]
    speed = found["images_per_second"]
    rows = []
    for other, ratio in found["framework_over"].items():
        goal = GOALS.get((name, other))
        judged = "" if goal is None else f"{goal} ({'met' if ratio['median'] >= goal else 'missed'})"
        rows.append(
            f"| {name} | {found['threads']} | {speed['framework']:,} | {other} | {speed[other]:,} |"
            f" {ratio['median']:.2f} ({ratio['least']:.2f}–{ratio['most']:.2f}) | {judged} |"
        )
    return rows


def _likelihood(found: dict[str, Any]) -> str:
    peaks = ", ".join(f"{peak:,.0f} MiB for {case}" for case, peak in found["peak_mebibytes"].items())
    return (
        f"Importance-sampled NLL of 784-200-200-50, one thread: {found['nll_microseconds']:.2f} µs per image and"
        f" draw, {found['nll_over_products']:.2f} × its decoder's products alone (goal 1.15),"
        f" {found['naive_over_nll']:.1f} × as fast as a loop over single images. Peak memory: {peaks}."
    )


def _circumstances(found: dict[str, Any]) -> str:
    lines = {
        f"{result['machine']}, commit {result['commit']}, "
        + ", ".join(f"{package} {number}" for package, number in result["versions"].items())
        for result in found.values()
    }
    return "Measured on: " + "; ".join(sorted(lines)) + "."
