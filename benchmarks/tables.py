"""The tables of docs/performance.md, from benchmarks/results/*.json."""

import json
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
OWN_MILLISECONDS = 0.25
"""The largest own time of the framework in a step that meets the goal, in milliseconds."""
DATA_WAIT = 0.01
"""The largest share of training with convolutions that may be spent on waiting for images."""


def render() -> None:
    """Write the tables between the page's two marks."""
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


def tables(found: dict[str, Any]) -> str:
    """Return all measurements as Markdown."""
    rows = [
        row for name, result in found.items() if "framework_over" in result["found"] for row in _rows(name, result)
    ]
    parts = [
        "| workload | threads | framework, images/s | against | images/s | framework ÷ it (least–most) | goal |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(rows)
    ]
    sections = {
        "own_time": _own_time,
        "data_wait": _data_wait,
        "likelihood": _likelihood,
        "memory": _memory,
        "startup": _startup,
        "eight_jobs": _eight_jobs,
        "stacked": _stacked,
        "precision": _precision,
        "growth": _growth,
    }
    parts += [section(found[name]["found"]) for name, section in sections.items() if name in found]
    parts.append(_circumstances(found))
    return "\n\n".join(parts)


def _rows(name: str, result: dict[str, Any]) -> list[str]:
    found = result["found"]
    speed = found["images_per_second"]
    rows = []
    for whose, label in (("framework", name), ("compiled", f"{name}, compile=true")):
        for other, ratio in found.get(f"{whose}_over", {}).items():
            goal = GOALS.get((label, other))
            judged = "" if goal is None else f"{goal} ({'met' if ratio['median'] >= goal else 'missed'})"
            rows.append(
                f"| {label} | {found['threads']} | {speed[whose]:,} | {other} | {speed[other]:,} |"
                f" {ratio['median']:.2f} ({ratio['least']:.2f}–{ratio['most']:.2f}) | {judged} |"
            )
    return rows


def _own_time(found: dict[str, Any]) -> str:
    own, control = found["own_milliseconds"], found["control_milliseconds"]
    judged = "met" if own["median"] <= OWN_MILLISECONDS else "missed"
    return (
        f"The framework's own time in a step of mlp_128, one thread: {own['median']:.2f} ms"
        f" ({own['least']:.2f}–{own['most']:.2f}; goal {OWN_MILLISECONDS}: {judged}). By processor time a step"
        f" within `trainer.fit`, all logging and callbacks on and {found['steps_at_once']} at once, takes"
        f" {found['framework_milliseconds']:.2f} ms; zero_grad, forward pass, loss, backward pass and optimiser"
        " step of the same model and objective in a plain loop over floats in memory take"
        f" {found['model_milliseconds']:.2f} ms. Both take turns in one process, over {found['epochs']} epochs of"
        f" {found['steps']} steps. A second such plain loop beside them takes {control['median']:+.2f} ms"
        f" ({control['least']:+.2f}–{control['most']:+.2f}) more than the first: so exact is the measurement."
    )


def _data_wait(found: dict[str, Any]) -> str:
    shares = {name: f"{s['median']:.1%} ({s['least']:.1%}–{s['most']:.1%})" for name, s in found.items()}
    judged = "met" if found["conv_64"]["median"] <= DATA_WAIT else "missed"
    return (
        "Of an epoch's time in training, one thread, a step waits for its images, gathered and turned into floats,"
        f" for {shares['conv_64']} in conv_64 (goal {DATA_WAIT:.0%}: {judged}) and for {shares['mlp_128']} in"
        " mlp_128."
    )


def _likelihood(found: dict[str, Any]) -> str:
    peaks = ", ".join(f"{peak:,.0f} MiB for {case}" for case, peak in found["peak_mebibytes"].items())
    return (
        f"Importance-sampled NLL of 784-200-200-50 ({found['images']:,} images, k = {found['k']:,}), one thread:"
        f" {found['nll_microseconds']:.2f} µs per image and draw, {found['nll_over_products']:.2f} × its decoder's"
        " products alone (goal 1.15),"
        f" {found['naive_over_nll']:.1f} × as fast as a loop over single images. Peak memory: {peaks}."
    )


def _startup(found: dict[str, Any]) -> str:
    return (
        f"`python train.py --help` answers in {found['help']:.1f} s (goal 3 s); the first step of the default run"
        f" is done after {found['first_step']:.1f} s (goal 6 s)."
    )


def _memory(found: dict[str, Any]) -> str:
    allocated, process = found["allocated"], found["process"]
    rows = "\n".join(f"| {case} | {allocated[case]:,.1f} | {process[case]:,.0f} |" for case in allocated)
    chunked, ratios = {"burda_iwae_50, objective.chunk=5": "burda_iwae_5"}, []
    chunked["conv_iwae_32, objective.chunk=4"] = "conv_iwae_4"
    for case, plain in chunked.items():
        ratios.append(
            f"{case} against {plain}: {process[case] / process[plain]:.2f} × the process's peak,"
            f" {allocated[case] / allocated[plain]:.2f} × what a step allocates"
        )
    return (
        "| memory of a training step | allocated in the step, MiB | peak of the process, MiB |\n|---|---|---|\n"
        f"{rows}\n\nChunks against as many draws as a chunk has (goal ≤ 1.2): {'; '.join(ratios)}."
    )


def _eight_jobs(found: dict[str, Any]) -> str:
    seconds, over = found["seconds"], found["commands_over"]
    ways = "; ".join(
        f"`{way}` {seconds[way]:.0f} s, {over[way]:.1f} × as fast" for way in seconds if way != "commands"
    )
    return (
        f"A sweep of 8 jobs (the digits, 10 epochs each, one thread a process; joblib with two processes):"
        f" the eight commands one after the other {seconds['commands']:.0f} s; {ways}."
    )


def _stacked(found: dict[str, Any]) -> str:
    over = {
        way: f"{r['median']:.2f} ({r['least']:.2f}–{r['most']:.2f})" for way, r in found["over_stacked"].items()
    }
    ways = "; ".join(
        f"`{way}` {found['seconds'][way]:.0f} s, {over[way]} × of it" for way in over if way != "stacked"
    )
    rows = "\n".join(
        f"| {model} | {members} | {step['milliseconds']:.2f} | {step['alone_over']['median']:.2f}"
        f" ({step['alone_over']['least']:.2f}–{step['alone_over']['most']:.2f}) |"
        f" {step['weights_mebibytes']:.1f} | {step['allocated_mebibytes']:.1f} |"
        for model, by_members in found["steps"].items()
        for members, step in by_members.items()
    )
    return (
        f"A sweep of 18 jobs (the digits, latent size × k × σ; one thread a process, two where there are several):"
        f" `stacked` {found['seconds']['stacked']:.0f} s; {ways} (goals 3 and 2).\n\n"
        "| a stack on one thread | members | ms a step of all | as fast as one by one, × | weights, MiB |"
        f" allocated in a step, MiB |\n|---|---|---|---|---|---|\n{rows}\n\n"
        "![cost of a step against the members](images/stacked.png)"
    )


def _precision(found: dict[str, Any]) -> str:
    rows = "\n".join(
        f"| {trained} | " + " | ".join(f"{nll:.3f}" for nll in evaluated.values()) + " |"
        for trained, evaluated in found["nll"].items()
    )
    return (
        f"NLL of the {found['images']:,} test images of the digits in nats, {found['k']} draws, the same"
        f" everywhere (the default model with `init=torch start_from_mean=true`, {found['epochs']} epochs from the"
        " same seed):\n\n"
        f"| trained in | evaluated in 32-true | in bf16-mixed |\n|---|---|---|\n{rows}"
    )


def _growth(found: dict[str, Any]) -> str:
    return (
        "How the cost of a step grows: processor time on one thread; the bars are conv_64_ddp's images per"
        " second, see there.\n\n"
        "![cost against k, latent size, image size, set size and processes](images/growth.png)"
    )


def _circumstances(found: dict[str, Any]) -> str:
    """Return text on each machine with its libraries, and on the lines measured there at each commit."""
    places: dict[str, dict[str, list[str]]] = {}
    for name, result in found.items():
        versions = ", ".join(f"{package} {number}" for package, number in result["versions"].items())
        commits = places.setdefault(f"{result['machine']}, {versions}", {})
        commits.setdefault(result["commit"], []).append(name)
    lines = []
    for place, commits in sorted(places.items()):
        at = "; ".join(f"{commit} ({', '.join(names)})" for commit, names in sorted(commits.items()))
        lines.append(f"Measured on {place}, at the commits {at}.")
    return "\n\n".join(lines)
