"""Jobs of two processes each: every rank has exactly its job's config and directory, and leaves nothing behind."""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from commands import QUICK, TWO_RANKS, metrics_of, run_train
from sweep.small_sweep import PROBED, folders_of, installed

SHORT = [*QUICK[:-1], "logger=csv", "trainer.max_epochs=1", *TWO_RANKS]
OF_A_RANK = ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK", "LOCAL_RANK", "WORLD_SIZE")
LAUNCHERS = ["basic", "joblib", "ray", "submitit_local"]


def agree(before: Any, after: Any) -> bool:
    """Whether two configs are the same, but for what was `auto` in the first."""
    if isinstance(before, dict) and isinstance(after, dict):
        return before.keys() == after.keys() and all(agree(before[key], after[key]) for key in before)
    return before in (after, "auto")


def check_ranks(records: Path, sweep: Path, jobs: int) -> None:
    """Two ranks a job, of one config and directory; each first rank started without a trace of another job."""
    by_job: dict[str, list[dict[str, Any]]] = {}
    for file in records.iterdir():
        record = json.loads(file.read_text())
        by_job.setdefault(record["config"]["paths"]["run"], []).append(record)
    assert len(by_job) == jobs
    assert {Path(path).name for path in by_job} == folders_of(sweep)
    ports = set()
    for path, ranks in by_job.items():
        first, second = sorted(ranks, key=lambda record: record["rank"])
        assert (first["rank"], second["rank"], first["world_size"], second["world_size"]) == (0, 1, 2, 2)
        # The second has read what the first had chosen.
        assert agree(first["config"], second["config"])
        assert second["config"] == OmegaConf.to_container(OmegaConf.load(Path(path) / ".hydra" / "config.yaml"))
        assert Path(path).name == f"latent_size={first['config']['latent_size']}"
        assert not {name for name in OF_A_RANK if name in first["environment"]}
        # What a command has Hydra do about errors is its own affair.
        assert "HYDRA_FULL_ERROR" not in first["environment"] | second["environment"]
        ports.add(second["environment"]["MASTER_PORT"])
    assert len(ports) == jobs
    assert {entry.name for entry in sweep.parent.iterdir()} == {sweep.name, records.name}


@pytest.mark.slow
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_jobs_of_two_ranks(launcher: str, tmp_path: Path) -> None:
    if not installed(launcher):
        pytest.skip(f"hydra/launcher={launcher} is not installed")
    path, records = tmp_path / "sweep", tmp_path / "records"
    records.mkdir()
    command = ["-m", "latent_size=2,3", *SHORT, f"hydra/launcher={launcher}", f"hydra.sweep.dir={path}"]
    done = run_train(*command, PYTHONPATH=PROBED, PROBE_RECORDS=str(records))
    assert done.returncode == 0, done.stdout + done.stderr
    check_ranks(records, path, jobs=2)
    if launcher == "basic":
        alone = tmp_path / "alone"
        assert run_train(*SHORT, "latent_size=3", f"hydra.run.dir={alone}").returncode == 0
        assert {**metrics_of(alone), "seconds": 0} == {**metrics_of(path / "latent_size=3"), "seconds": 0}


@pytest.mark.slow
@pytest.mark.skipif(find_spec("optuna") is None, reason="optuna is not installed")
def test_jobs_of_two_ranks_whose_values_optuna_draws(tmp_path: Path) -> None:
    path, records = tmp_path / "sweep", tmp_path / "records"
    records.mkdir()
    # Each rank that drew for itself would draw something else; with a pruner, both must also end together.
    space = ["hydra/sweeper=optuna", "latent_size=int(interval(2,10000))", "hydra.sweeper.n_trials=3"]
    command = ["-m", *space, *SHORT, f"hydra.sweep.dir={path}"]
    done = run_train(*command, PYTHONPATH=PROBED, PROBE_RECORDS=str(records))
    assert done.returncode == 0, done.stdout + done.stderr
    check_ranks(records, path, jobs=3)


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["0", "1"])
def test_a_job_of_two_ranks_says_why_it_failed_in_one_line_or_as_asked(asked: str, tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    command = ["-m", "likelihood.sigma=1e-30", *SHORT, "callback=none", f"hydra.sweep.dir={path}"]
    done = run_train(*command, HYDRA_FULL_ERROR=asked)
    assert done.returncode == 1
    (job,) = path.glob("*/job.json")
    log = (job.parent / "output.log").read_text()
    of_the_ranks = log.partition("Traceback")[0] if asked == "0" else log
    assert ("Traceback" in of_the_ranks) == (asked == "1")
    if asked == "0":
        assert "the training has diverged at step 1" in json.loads(job.read_text())["reason"]
        assert "error: " in of_the_ranks
