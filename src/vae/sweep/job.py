"""One job of a sweep, in whatever process the launcher runs it."""

import hashlib
import math
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from vae.command.error_line import error_line
from vae.sweep.devices import claim_gpus, started_by_scheduler, wanted_processes
from vae.sweep.folder import JobDirectory, SweepDirectory
from vae.sweep.memory import give_back_memory

Task = Callable[[DictConfig], float | None]


class JobError(Exception):
    """A job failed, and its job.json says why. Unlike most exceptions it survives being sent between processes."""


def run_job(task: Task, config: DictConfig) -> float | None:
    """Run a job of a sweep, or go on with it; nothing if it is done. Its output goes to output.log.

    Raises:
        JobError: whatever went wrong is in job.json, with the traceback in output.log.
    """
    hydra = HydraConfig.get()
    job = JobDirectory(hydra.runtime.output_dir)
    if not (job.path.parent / "sweep.json").exists():
        # A sweeper that is not ours.
        return task(config)
    launcher = hydra.runtime.choices.get("hydra/launcher")
    if started_by_scheduler() and os.environ["SLURM_PROCID"] != "0":
        return _follow(task, config, job, launcher)
    with job.lock() as lock, _output_to(job.log):
        if job.state() == "done":
            return job.metrics().get(config.sweep_metric)
        job.start()
        try:
            prepare(config, job, launcher)
            apart = wanted_processes(config) > 1 and not started_by_scheduler()
            value = _run_apart(config, job, lock) if apart else task(config)
            _check_finite(job, config.sweep_metric)
        except Exception as error:
            reason = _reason(error, list(hydra.overrides.task))
            traceback.print_exc()
        else:
            job.finish("done")
            return value
        finally:
            give_back_memory()
        pruned = "TrialPruned" in reason
        job.finish("pruned" if pruned else "failed", reason)
        raise JobError(f"{job.name}: {reason}")


def _follow(task: Task, config: DictConfig, job: JobDirectory, launcher: str | None) -> float | None:
    """The part of a further rank that the scheduler has started: the first rank keeps the job's records."""
    from vae.command.distributed import as_further_rank

    if job.state() == "done":
        return None
    prepare(config, job, launcher)
    with as_further_rank():
        return task(config)


def prepare(config: DictConfig, job: JobDirectory, launcher: str | None) -> None:
    """Adapt a job's config: go on from its checkpoint, its place in W&B, and its GPUs."""
    config.resume = str(job.path)
    if launcher == "joblib":
        claim_gpus(config, job.path.parent)
    manifest = SweepDirectory(job.path.parent).manifest()
    if manifest.get("pruning"):
        with open_dict(config.callback):
            config.callback.pruning = {
                "_target_": "vae.sweep.pruning.Pruning",
                "sweep": str(job.path.parent),
                "job": job.name,
            }
    if OmegaConf.select(config, "logger.wandb") is not None:
        _name_in_wandb(config, job.name, manifest["id"], manifest["jobs"].get(job.name, {}))


def _name_in_wandb(config: DictConfig, name: str, sweep_id: str, values: dict[str, str]) -> None:
    """One W&B run for each job, the same one after a resume, in one group for the sweep."""
    digest = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
    ours = {
        "group": f"{config.name}-{sweep_id}",
        "job_type": "sweep",
        "tags": [f"{key.lstrip('+')}={value}"[:64] for key, value in values.items()],
    }
    wandb = config.logger.wandb
    with open_dict(wandb):
        wandb.id, wandb.name = f"{sweep_id}-{digest}", name
        for key, value in ours.items():
            if wandb.get(key) is None:
                wandb[key] = value


def _run_apart(config: DictConfig, job: JobDirectory, lock: int) -> float | None:
    """Run a job of several processes as a command of its own.

    Lightning kills the process that started the ranks when one of them fails, and leaves a process group
    behind when none does: neither must happen to the process that runs the sweep.
    """
    from vae.command.distributed import rerun_arguments
    from vae.run.directory import RunDirectory

    RunDirectory(job.path).write_config(config)
    command = [sys.executable, "-m", "vae.train", *rerun_arguments(job.path), "hydra.output_subdir=null"]
    with job.log.open("a", encoding="utf-8") as log:
        done = subprocess.run(command, stdout=log, stderr=log, pass_fds=[lock], check=False)
    if done.returncode != 0:
        lines = [
            line
            for line in job.log.read_text(encoding="utf-8", errors="replace").splitlines()
            if line.startswith("error: ")
        ]
        raise RuntimeError(lines[-1].removeprefix("error: ") if lines else f"exit status {done.returncode}")
    return job.metrics().get(config.sweep_metric)


def _check_finite(job: JobDirectory, metric: str) -> None:
    """A run without the number that the sweep is about has failed."""
    if job.metrics().get(metric, math.inf) is None:
        (job.path / "metrics.json").unlink()
        raise FloatingPointError(f"{metric} is not a finite number")


def _reason(error: BaseException, overrides: list[str]) -> str:
    return error_line(error, overrides).removeprefix("error: ").replace(" (HYDRA_FULL_ERROR=1 shows where)", "")


@contextmanager
def _output_to(path: Path) -> Iterator[None]:
    with path.open("a", buffering=1, encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        yield
