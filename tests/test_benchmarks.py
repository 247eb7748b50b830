"""What make bench measures of the framework's own time is there, and what it writes says what was found."""

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.data_wait import share
from benchmarks.gpu import SECTIONS
from benchmarks.own_time import epochs_in_turns, summary
from benchmarks.tables import tables
from benchmarks.training import ratio
from benchmarks.workload import Workload, write_images

from commands import run_command
from vae.data import Batch, ImageDataModule
from vae.training.module import VAEModule

SMALL = ("likelihood=bernoulli", "network.hidden_sizes=[16]", "latent_size=2", "data.batch_size=16", "logger=csv")
PLANTED = 4e-3
"""Seconds in each step of the framework."""


class Clock:
    """Stands in for the module `time`.

    Args:
        tick: seconds that pass whenever it is asked.
    """

    def __init__(self, tick: float = 0.0):
        self.now, self.tick = 0.0, tick

    def process_time(self) -> float:
        self.now += self.tick
        return self.now

    perf_counter = process_time


def own_time(folder: Path, *overrides: str) -> dict[str, Any]:
    """Of a model so small that nearly all of a step is the framework's."""
    workload = Workload((*SMALL, "callback.pictures=null", *overrides), images=640)
    folder.mkdir()
    write_images(workload, folder)
    return summary(*epochs_in_turns(workload, folder, 3))


@pytest.mark.parametrize("steps_at_once", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_a_planted_delay_is_found(steps_at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    override = f"steps_at_once={steps_at_once}"
    clock = Clock()
    monkeypatch.setattr("benchmarks.own_time.time", clock)
    before = own_time(tmp_path / "before", override)
    log_if_due = VAEModule.log_means_if_due

    def slowed(self: VAEModule, is_last: bool) -> None:
        clock.now += PLANTED
        log_if_due(self, is_last)

    monkeypatch.setattr(VAEModule, "log_means_if_due", slowed)
    after = own_time(tmp_path / "after", override)
    assert after["steps"] == 40
    assert after["steps_at_once"] == steps_at_once
    planted = after["own_milliseconds"]["median"] - before["own_milliseconds"]["median"]
    assert planted == pytest.approx(PLANTED * 1e3, rel=0.3)
    assert abs(after["control_milliseconds"]["median"]) < 0.3 * PLANTED * 1e3


def result(commit: str, found: dict[str, Any], machine: str = "2 cores") -> dict[str, Any]:
    return {"machine": machine, "commit": commit, "versions": {"torch": "2.15.0"}, "found": found}


def own_time_of(milliseconds: float) -> dict[str, Any]:
    spread = {"median": milliseconds, "least": milliseconds - 0.1, "most": milliseconds + 0.1}
    control = {"median": 0.01, "least": -0.02, "most": 0.03}
    counts = {"epochs": 5, "steps": 429, "steps_at_once": 16}
    times = {"framework_milliseconds": 8.75, "model_milliseconds": 8.5}
    return counts | times | {"own_milliseconds": spread, "control_milliseconds": control}


@pytest.mark.parametrize(("milliseconds", "judged"), [(0.12, "met"), (0.3, "missed")])
def test_own_time_is_judged_by_its_goal(milliseconds: float, judged: str) -> None:
    page = tables({"own_time": result("abc", own_time_of(milliseconds))})
    figures = f"{milliseconds:.2f} ({milliseconds - 0.1:.2f}–{milliseconds + 0.1:.2f})"
    assert f"| own_time: a step, ms | {figures} | ≤ 0.15: {judged} |" in page
    assert "| own_time: a second plain loop, ms | 0.01 (-0.02–0.03) | 0 |" in page


def test_a_machine_is_named_once_with_the_commits_of_its_lines() -> None:
    startup = {"help": 1.0, "first_step": 5.0}
    page = tables({"own_time": result("abc", own_time_of(0.2)), "startup": result("abc", startup)})
    assert page.endswith("Measured on 2 cores, torch 2.15.0, at the commits abc (own_time, startup).")
    page = tables({"own_time": result("def", own_time_of(0.2)), "startup": result("abc", startup)})
    assert page.endswith("at the commits abc (startup); def (own_time).")
    elsewhere = result("def", startup, "16 cores")
    page = tables({"own_time": result("abc", own_time_of(0.2)), "startup": elsewhere})
    assert page.count("Measured on") == 2


@pytest.mark.parametrize(("share", "judged"), [(0.004, "met"), (0.02, "missed")])
def test_waiting_for_data_is_judged_where_there_is_a_goal(share: float, judged: str) -> None:
    waited = {"median": share, "least": share / 2, "most": share * 2}
    page = tables({"data_wait": result("abc", {"conv_64": waited, "mlp_128": waited})})
    assert f"| data_wait: conv_64 | {share:.1%} ({share / 2:.1%}–{share * 2:.1%}) | ≤ 1%: {judged} |" in page


def test_compiled_training_is_compared_with_the_bare_loop() -> None:
    speed = {"framework": 900, "bare": 1000, "compiled": 1050}
    spread = {"median": 1.05, "least": 1.0, "most": 1.1}
    found = {"threads": 1, "images_per_second": speed, "framework_over": {}, "compiled_over": {"bare": spread}}
    page = tables({"mlp_128": result("abc", found)})
    assert "| mlp_128, compile=true | 1 | 1,050 | bare | 1,000 | 1.05 (1.00–1.10) | ≥ 1.0: met |" in page


def test_ratios_are_of_the_same_turn() -> None:
    assert ratio([1.0, 4.0, 9.0], [2.0, 4.0, 3.0]) == {"median": 1.0, "least": 0.5, "most": 3.0}


def test_a_planted_wait_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    # A clock that ticks once each time that it is asked, so that nothing depends on the machine.
    clock = Clock(tick=1e-3)
    monkeypatch.setattr("benchmarks.data_wait.time", clock)
    workload = Workload(SMALL, images=640)
    before = share(workload, 1)["median"]
    ready = ImageDataModule.ready

    def late(self: ImageDataModule, batch: Batch) -> Batch:
        clock.now += 0.02
        return ready(self, batch)

    monkeypatch.setattr(ImageDataModule, "ready", late)
    assert share(workload, 1)["median"] > before + 0.3


@pytest.mark.slow
def test_all_that_needs_a_gpu_is_rehearsed(tmp_path: Path) -> None:
    options = ("device=cpu", "tiny=true", "minutes=30", f"out={tmp_path}")
    done = run_command("-m", "benchmarks.gpu", *options, timeout=1800)
    assert done.returncode == 0, done.stderr
    results = {path.stem: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert set(results) == set(SECTIONS)
    assert "failed" not in json.dumps(results), results
    assert all(difference["agrees"] for difference in results["smoke"]["found"]["differences"].values())
    assert (tmp_path / "celeba_sigma_0.1.png").is_file()
