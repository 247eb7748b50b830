"""Which GPUs and processes a job gets, on machines with numbers of GPUs that are made up."""

import os
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError
from vae.sweep import devices
from vae.sweep.devices import (
    check_devices,
    claim_gpus,
    cpu_count,
    gpus_per_job,
    jobs_at_once,
    wanted_processes,
)


def config(count: object = 1, accelerator: str = "auto", **more: object) -> DictConfig:
    return OmegaConf.create({"trainer": {"devices": count, "accelerator": accelerator, **more}})


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A process without claims or variables; `setattr(devices, "gpu_count", …)` says how many GPUs there are."""
    monkeypatch.setattr(devices, "_held", [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return monkeypatch


def claims(machine: pytest.MonkeyPatch, sweep: Path, gpus: int, jobs: int, each: int, workers: int) -> list[str]:
    """What each of some workers of joblib sees after it has run some jobs of `each` GPUs."""
    seen, locks = [], []
    for _ in range(workers):
        machine.setattr(devices, "_held", [])
        machine.setattr(devices, "gpu_count", lambda: gpus)
        machine.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        for _ in range(jobs):
            claim_gpus(config(each), sweep)
            # From then on CUDA shows this process no more than that.
            machine.setattr(devices, "gpu_count", lambda: min(each, gpus))
        seen.append(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
        locks += devices._held
    for lock in locks:
        lock.close()
    return seen


@pytest.mark.parametrize(
    ("gpus", "each", "workers", "expected"),
    [
        (4, 1, 4, ["0", "1", "2", "3"]),
        (4, 2, 2, ["0,1", "2,3"]),
        # More workers than GPUs share them in turn.
        (2, 1, 4, ["0", "1", "0", "1"]),
        (1, 1, 2, ["0", "0"]),
        (0, 1, 2, ["none", "none"]),
    ],
)
def test_each_joblib_worker_has_gpus_of_its_own(
    gpus: int, each: int, workers: int, expected: list[str], machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert claims(machine, tmp_path, gpus, 3, each, workers) == expected


def test_a_worker_that_ended_leaves_its_gpu_to_the_next(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setattr(devices, "gpu_count", lambda: 2)
    for _ in range(2):
        machine.setattr(devices, "_held", [])
        machine.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        claim_gpus(config(), tmp_path)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
        devices._held[0].close()


def test_a_worker_takes_of_those_gpus_only_that_the_user_allows(
    machine: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine.setattr(devices, "gpu_count", lambda: 2)
    machine.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    claim_gpus(config(), tmp_path)
    first, devices._held[:] = list(devices._held), []
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "5"
    machine.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    claim_gpus(config(), tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    for lock in [*first, *devices._held]:
        lock.close()


def test_jobs_on_the_cpu_claim_none(machine: pytest.MonkeyPatch, tmp_path: Path) -> None:
    machine.setattr(devices, "gpu_count", lambda: 2)
    claim_gpus(config(accelerator="cpu"), tmp_path)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


def test_what_launchers_ask_for_by_default(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(devices, "gpu_count", lambda: 4)
    assert (jobs_at_once(), gpus_per_job(2), gpus_per_job("auto")) == (4, 2, 1)
    machine.setattr(devices, "gpu_count", lambda: 0)
    assert (jobs_at_once(), gpus_per_job(2)) == (cpu_count(), 0)


def test_a_machine_that_knows_of_no_affinity_has_all_its_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cpu_count() == 5


@pytest.mark.parametrize(
    ("count", "more", "expected"),
    [(2, {}, 2), ([0, 3], {}, 2), (2, {"num_nodes": 3}, 6), ("auto", {}, 4), (-1, {}, 4)],
)
def test_the_processes_of_a_job(
    count: object, more: dict[str, object], expected: int, machine: pytest.MonkeyPatch
) -> None:
    machine.setattr(devices, "gpu_count", lambda: 4)
    assert wanted_processes(config(count, **more)) == expected


def test_more_gpus_than_there_are_is_one_line(machine: pytest.MonkeyPatch) -> None:
    machine.setattr(devices, "gpu_count", lambda: 2)
    check_devices(config(2, "gpu"))
    with pytest.raises(ConfigError, match=r"trainer.devices=3: trainer.accelerator=gpu has 2 on this machine"):
        check_devices(config(3, "gpu"))
