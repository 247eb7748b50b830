"""W&B with sweeps: a job that goes on goes on in its W&B run, and W&B's own agent can drive train.py."""

import os
import shutil
import sys
from pathlib import Path

import pytest
import yaml

from commands import QUICK, REPOSITORY, TRAIN, metrics_of, run_command, run_train
from offline_wandb import OfflineRun, read_offline_runs
from sweep.small_sweep import PROBED

pytestmark = pytest.mark.slow
JOBS = ("latent_size=2", "latent_size=3")


def steps(run: OfflineRun) -> list[int]:
    return [row["trainer/global_step"] for row in run.history if "train/elbo" in row]


def test_a_job_that_was_interrupted_goes_on_in_its_wandb_run(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    command = ["-m", "latent_size=2,3", *QUICK[:-1], "callback.pictures=null", f"hydra.sweep.dir={path}"]
    # In the middle of the second job, by Ctrl-C.
    interrupted = run_train(*command, PYTHONPATH=PROBED, PROBE_KILL="latent_size=3", PROBE_SIGNAL="SIGINT")
    assert interrupted.returncode == 130
    resumed = run_train(f"resume={path}")
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    whole, parts = (read_offline_runs(path / job) for job in JOBS)
    assert len(whole) == 1
    assert len(parts) == 2
    # `wandb sync` joins what has the same id.
    before, after = parts
    for name in ("id", "name", "group", "job_type", "tags"):
        assert getattr(before, name) == getattr(after, name), name
    assert before.id != whole[0].id
    assert before.group == whole[0].group
    assert steps(before) + steps(after) == steps(whole[0])
    assert len(steps(after)) == 1
    assert after.exit_code == 0
    assert after.config["latent_size"] == 3


def test_the_documented_wandb_sweep_drives_train(tmp_path: Path) -> None:
    """By the code of wandb's agent, which makes a command of the YAML and of the values that W&B has chosen."""
    definition = yaml.safe_load((REPOSITORY / "docs" / "wandb_sweep.yaml").read_text())
    assert definition["program"] == "train.py"
    chosen = {"latent_size": 8, "objective.k": 5, "likelihood.sigma": 0.1234}
    assert set(chosen) == set(definition["parameters"])
    online = definition["command"].index("logger.wandb.mode=online")
    definition["command"][online] = "logger.wandb.mode=offline"
    definition["command"] += [*QUICK[:-1], "callback=none", f"hydra.run.dir={tmp_path / 'run'}"]
    agent = f"""
import sys
from wandb.wandb_agent import Agent
agent = Agent.__new__(Agent)
agent._in_jupyter, agent._function, agent._forward_signals, agent._run_processes = False, None, False, {{}}
agent._sweep_command = {definition["command"]!r}
values = {{name: {{"value": value}} for name, value in {chosen!r}.items()}}
agent._command_run({{"run_id": "chosenid", "program": {TRAIN!r}, "args": values}})
sys.exit(agent._run_processes["chosenid"].wait())
"""
    # The command calls `python`, as found in PATH.
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert shutil.which("python", path=path)
    done = run_command("-c", agent, folder=tmp_path, PATH=path, WANDB_SWEEP_ID="asweep")
    assert done.returncode == 0, done.stdout + done.stderr
    (run,) = read_offline_runs(tmp_path / "run")
    # The run is the agent's, in the agent's sweep, with the values that it chose and the number that it asks for.
    assert (run.id, run.sweep_id) == ("chosenid", "asweep")
    assert (run.config["latent_size"], run.config["objective"]["k"]) == (8, 5)
    assert run.config["likelihood"]["sigma"] == 0.1234
    number = definition["metric"]["name"]
    assert [row[number] for row in run.history if number in row][-1] == pytest.approx(
        metrics_of(tmp_path / "run")[number]
    )
