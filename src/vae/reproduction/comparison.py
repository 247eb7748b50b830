"""Our numbers beside the published ones: results/<table>.json and the same as Markdown."""

import json
import statistics
from pathlib import Path
from typing import Any

from vae.reproduction.table import Row, Table
from vae.run.files import read_json
from vae.sweep.directory import JobDirectory
from vae.sweep.plan import listed_values, make_job

Found = dict[str, Any]


def compare(table: Table, folder: Path, seeds: list[int], command: str) -> Found:
    """Return the contents of results/<table>.json: every row with every seed, including failed ones."""
    rows = [_row(table, row, folder, seeds) for row in table.rows]
    return {
        "table": table.name,
        "title": table.title,
        "schedule": table.schedule,
        "command": command,
        "train": table.train,
        "evaluate": table.evaluate,
        "rows": rows,
    }


def _row(table: Table, row: Row, folder: Path, seeds: list[int]) -> Found:
    jobs = {seed: make_job(listed_values(f"{row.job} seed={seed}")) for seed in seeds}
    runs = [{"seed": seed} | _run(JobDirectory(folder / job.name), table, row) for seed, job in jobs.items()]
    numbers = [run["value"] for run in runs if run.get("value") is not None]
    ours = statistics.fmean(numbers) if numbers else None
    return {
        "name": row.name,
        "overrides": row.job,
        "measure": row.measure,
        "ours": ours,
        "spread": statistics.stdev(numbers) if len(numbers) > 1 else None,
        "paper": row.paper,
        "difference": None if ours is None or row.paper is None else ours - row.paper,
        "later": row.later,
        "runs": runs,
    }


def _run(job: JobDirectory, table: Table, row: Row) -> Found:
    """Return the numbers of one seed and where they come from, or the state of its run."""
    state, evaluation = job.state(), read_json(job.path / "evaluation.json")
    if state != "done" or evaluation is None:
        return {"state": state if state != "done" else "not evaluated", "reason": job.record().get("reason")}
    metrics, measured = job.metrics(), evaluation["metrics"]
    origin = read_json(job.path / ".hydra" / "origin.json") or {}
    return {
        "state": state,
        "value": measured.get(f"test/{row.measure}"),
        "stderr": measured.get(f"test/{row.measure}_stderr"),
        "also": {name: measured.get(f"test/{name}") for name in table.also},
        "nll_at": _nll_at(measured) if row.measure == "nll" else {},
        "epochs": metrics["epochs"],
        "seconds": job.record().get("seconds"),
        "device": origin.get("device"),
        "commit": origin.get("commit"),
    }


def _nll_at(measured: dict[str, float]) -> dict[str, float]:
    """Return the estimates by their number of draws, up to all draws."""
    start = "test/nll_at_"
    at = {name.removeprefix(start): value for name, value in measured.items() if name.startswith(start)}
    return at | {str(round(measured["test/nll_k"])): measured["test/nll"]} if at else {}


def markdown(found: Found) -> str:
    """Return the comparison as a Markdown page."""
    runs = [run for row in found["rows"] for run in row["runs"]]
    also = list(dict.fromkeys(name for run in runs for name in run.get("also", {})))
    published = [key for key in ("paper", "later") if any(row[key] is not None for row in found["rows"])]
    heads = [
        "",
        "measure",
        "ours",
        *({"paper": "the paper's", "later": "later ones'"}[key] for key in published),
        *(["difference"] if "paper" in published else []),
        *also,
        *("seeds", "spread", "epochs", "seconds", "device", "commit"),
    ]
    lines = [_line(row, also, published) for row in found["rows"]]
    table = [f"| {' | '.join(cells)} |" for cells in (heads, ["---"] * len(heads), *lines)]
    notes = [
        f"- {row['name']}, seed {run['seed']}: {run['state']}" + (f" ({run['reason']})" if run["reason"] else "")
        for row in found["rows"]
        for run in row["runs"]
        if "value" not in run
    ]
    schedule = "the short schedule" if found["schedule"] == "short" else "the full schedule"
    words = f"With {schedule}, by `{found['command']}`. Test images, best checkpoint by the validation images;"
    more = (
        "± is the standard error over images, spread the standard deviation over seeds, seconds are of training."
    )
    common = [f"{of}: `{' '.join(found[of])}`." for of in ("train", "evaluate") if found[of]]
    page = [f"# {found['title']}", "", " ".join([words, more, *common]), "", *table, "", *notes]
    return "\n".join(page).rstrip() + "\n"


def _line(row: Found, also: list[str], published: list[str]) -> list[str]:
    done = [run for run in row["runs"] if run.get("value") is not None]
    error = next((run["stderr"] for run in done if run["stderr"] is not None), None)
    ours = _number(row["ours"]) + (f" ± {error:.2f}" if error is not None and len(done) == 1 else "")
    return [
        row["name"],
        row["measure"],
        ours,
        *(_number(row[key]) for key in published),
        *([f"{row['difference']:+.2f}" if row["difference"] is not None else "–"] if "paper" in published else []),
        *(_number(_mean([run["also"].get(name) for run in done])) for name in also),
        f"{len(done)} of {len(row['runs'])}",
        _number(row["spread"]),
        *(_joined(run[key] for run in done) for key in ("epochs",)),
        _number(_mean([run["seconds"] for run in done]), digits=0),
        *(_joined(run[key] for run in done) for key in ("device", "commit")),
    ]


def _mean(numbers: list[float | None]) -> float | None:
    known = [number for number in numbers if number is not None]
    return statistics.fmean(known) if known else None


def _number(value: float | None, digits: int = 2) -> str:
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if abs(value) >= 0.1 or value == 0 else f"{value:.2g}"


def _joined(values: Any) -> str:
    return "; ".join(dict.fromkeys(str(value) for value in values if value is not None)) or "–"


def to_json(found: Found) -> str:
    """Return the contents of results/<table>.json as text."""
    return json.dumps(found, indent=2, ensure_ascii=False) + "\n"
