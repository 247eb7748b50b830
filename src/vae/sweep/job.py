"""One job of a sweep, in whatever process the launcher runs it."""

import gc
import hashlib
import math
import os
import subprocess
import sys
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from types import TracebackType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from vae.command.distributed import ENDS_WITH, as_further_rank, end_when, rerun_arguments, started
from vae.command.error_line import error_line
from vae.command.interruption import Interrupted
from vae.sweep.devices import claim_gpus, wanted_processes
from vae.sweep.directory import ENDED, JobDirectory, State, SweepDirectory
from vae.training.collection import exempt_what_is_alive

Task = Callable[[DictConfig], float | None]

ENDS_WITH_THE_SWEEP = ("joblib", "submitit_local")
"""Launchers whose processes would go on, with nobody to take what they find, when the sweep's was killed."""

OF_THE_LENGTH = ("trainer.max_", "trainer.limit_", "trainer.accumulate", "data", "budget", "suits", "experiment")
"""How the keys begin that say how long a training is, for how many images."""


class JobError(Exception):
    """A job failed, and its job.json says why. Unlike most exceptions it survives being sent between processes."""


class TrialPruned(Exception):  # noqa: N818  Optuna's word
    """Ends a job of an adaptive sweep early; no error."""


class RecordedTask:
    """What launchers run as a job: a command's task with the records of a sweep around it.

    Args:
        task: trains what a config says.
    """

    def __init__(self, task: Task):
        self.task = task

    def __call__(self, config: DictConfig) -> float | None:
        """Run a job, or go on with it; nothing if it is done. Its output goes to output.log.

        Raises:
            JobError: whatever went wrong is in job.json, with the traceback in output.log.
        """
        hydra = HydraConfig.get()
        launcher = hydra.runtime.choices.get("hydra/launcher")
        attempt = Attempt(hydra.runtime.output_dir, config, launcher, hydra.overrides.task)
        if launcher in ENDS_WITH_THE_SWEEP:
            _end_with(SweepDirectory(attempt.job.path.parent))
        if (there := started()) and there.rank > 0:
            return self._follow(attempt)
        with output_to(attempt.job.log):
            try:
                with attempt:
                    if not attempt.over:
                        self._train(attempt)
            except Exception:  # recorded
                pass
            finally:
                give_back_memory()
        return attempt.result()

    def ends(self, jobs: Iterable[JobDirectory]) -> "Ends":
        """Return how the ends of jobs that are about to begin will show."""
        return TrainingEnds(jobs)

    def _train(self, attempt: "Attempt") -> None:
        if wanted_processes(attempt.config) > 1 and not started():
            _train_apart(attempt)
        else:
            self.task(attempt.config)

    def _follow(self, attempt: "Attempt") -> float | None:
        """Do the part of a further rank that the scheduler has started: the first rank keeps the job's
        records.
        """
        if attempt.job.state() == "done":
            return None
        attempt.prepare()
        with as_further_rank():
            return self.task(attempt.config)


class Ends(ABC):
    """How the ends of jobs that run elsewhere show in their directories."""

    @abstractmethod
    def has_come(self, job: JobDirectory) -> bool:
        """Return whether a job has ended, well or not."""

    @abstractmethod
    def cancel(self, job: JobDirectory, reason: str) -> None:
        """Record that somebody has ended a job, which is not to be tried again."""

    @abstractmethod
    def explain(self, job: JobDirectory, reason: str) -> None:
        """Record why a job is over that has left no result."""


class TrainingEnds(Ends):
    """Those of trainings.

    Args:
        jobs: before they begin.
    """

    def __init__(self, jobs: Iterable[JobDirectory]):
        self._attempts = {job.name: job.record().get("attempts", 0) for job in jobs}

    def has_come(self, job: JobDirectory) -> bool:
        record = job.record()
        # One that has failed before is there to be tried again.
        again = record.get("attempts", 0) > self._attempts[job.name]
        return record.get("state") == "done" or (record.get("state") in ENDED and again)

    def cancel(self, job: JobDirectory, reason: str) -> None:
        job.finish("failed", reason)

    def explain(self, job: JobDirectory, reason: str) -> None:
        job.update(reason=reason)


_ends_with: SweepDirectory | None = None


def _end_with(sweep: SweepDirectory) -> None:
    """End this process when the sweep's does, also by kill -9: a worker in between may not tell, or live on."""
    global _ends_with
    if _ends_with is None:
        _ends_with, holder = sweep, sweep.holder()
        end_when(lambda: holder is None or sweep.holder() != holder)


class Attempt:
    """One attempt at a job, from its lock to the record of its end.

    Within it the job is locked and `config` is what to train: resolved, so that it depends neither on Hydra's
    state nor on another attempt. Whoever trains several jobs at once in a process therefore enters an attempt for
    each. What is raised within is recorded in job.json, and goes on outwards; a signal leaves the job interrupted.

    Args:
        path: the job's directory.
        config: as composed for the job.
        launcher: which launcher runs it, as in `hydra/launcher=`.
        overrides: of the job, for messages.
    """

    def __init__(self, path: str | Path, config: DictConfig, launcher: str | None, overrides: Sequence[str]):
        self.job, self.config, self.launcher, self.overrides = (
            JobDirectory(path),
            config,
            launcher,
            list(overrides),
        )
        self.over = False
        """Whether there is nothing (more) to do: the job was done before, or has failed."""
        self.lock = -1
        """File descriptor of the job's lock. A process that gets it keeps the lock until it ends."""
        self._exits = ExitStack()

    def __enter__(self) -> "Attempt":
        self.lock = self._exits.enter_context(self.job.lock())
        self.over = self.job.state() == "done"
        if not self.over:
            self.job.start()
            try:
                self.prepare()
            except Exception as error:
                self.fail(error)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with self._exits:
            if self.over:
                return
            if isinstance(error, SystemExit) and not isinstance(error, Interrupted):
                # One of several ranks says itself what was wrong, and ends with what it was as the cause.
                error = error.__cause__ or error
            if isinstance(error, Exception):
                self.fail(error)
            elif error is None and self.job.metrics().get(self.config.sweep_metric, math.inf) is None:
                # A run without the number that the sweep is about has failed.
                self.job.metrics_file.unlink()
                self.fail(FloatingPointError(f"{self.config.sweep_metric} is not a finite number"))
            elif error is None:
                self.job.finish("done")

    def fail(self, error: Exception) -> None:
        """Record that this job has failed, or was pruned. Others that are trained with it may go on."""
        self.over = True
        line = error_line(error, self.overrides).removeprefix("error: ")
        with self.job.log.open("a", encoding="utf-8") as log:
            traceback.print_exception(error, file=log)
        state: State = "pruned" if isinstance(error, TrialPruned) else "failed"
        self.job.finish(state, line.replace(" (HYDRA_FULL_ERROR=1 shows where)", ""))

    def result(self) -> float | None:
        """Return the number that the sweep is about.

        Raises:
            JobError: the job failed, or was pruned.
        """
        record = self.job.record()
        if record.get("state") in ("failed", "pruned"):
            raise JobError(f"{self.job.name}: {record['reason']}")
        return self.job.metrics().get(self.config.sweep_metric)

    def prepare(self) -> None:
        """Adapt the config: go on from the job's checkpoint, its place in W&B, its GPUs, its pruning."""
        config, name = self.config, self.job.name
        sweep = SweepDirectory(self.job.path.parent)
        manifest = sweep.manifest()
        config.resume = str(self.job.path)
        # No browser for every job.
        config.open = False
        lengths_vary = any(axis.lstrip("+").startswith(OF_THE_LENGTH) for axis in manifest["axes"])
        if lengths_vary and OmegaConf.select(config, "metric.test.nll.k") == "auto":
            from vae.metric.nll import FIXED  # here, as it needs torch

            # Numbers that are to be compared are from as many draws, whatever each job's length would allow.
            config.metric.test.nll.k = FIXED
        if self.launcher == "joblib":
            claim_gpus(config, sweep.path)
        if manifest.get("pruning"):
            with open_dict(config.callback):
                pruning = {"_target_": "vae.sweep.pruning.Pruning", "sweep": str(sweep.path), "job": name}
                config.callback.pruning = pruning
        if config.get("logger"):
            _name_in_loggers(config.logger, name, f"{config.name}-{manifest['id']}", manifest)
        OmegaConf.resolve(config)


def _name_in_loggers(loggers: DictConfig, name: str, group: str, manifest: dict[str, Any]) -> None:
    """Give each job one run in W&B and MLflow, the same after a resume, in one group for the sweep."""
    own_id = f"{manifest['id']}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
    values = {key.lstrip("+"): value for key, value in manifest["jobs"].get(name, {}).items()}
    if (wandb := loggers.get("wandb")) is not None:
        with open_dict(wandb):
            wandb.id, wandb.name = own_id, name
            tags = [f"{key}={value}"[:64] for key, value in values.items()]
            for key, value in {"group": group, "job_type": "sweep", "tags": tags}.items():
                if wandb.get(key) is None:
                    wandb[key] = value
    if (mlflow := loggers.get("mlflow")) is not None:
        with open_dict(mlflow):
            mlflow.id, mlflow.run_name, mlflow.tags = own_id, name, {"sweep": group}


def _train_apart(attempt: Attempt) -> None:
    """Train a job of several processes by a command of its own.

    Lightning kills the process that started the ranks when one of them fails, and leaves a process group
    behind when none does: neither must happen to the process that runs the sweep.
    """
    from vae.run.directory import RunDirectory

    job = attempt.job
    RunDirectory(job.path).write_config(attempt.config)
    RunDirectory(job.path).write_arguments(attempt.overrides)
    command = [sys.executable, "-m", "vae.train", *rerun_arguments(job.path)]
    environment = os.environ | {ENDS_WITH: str(os.getpid())}
    with job.log.open("a", encoding="utf-8") as log:
        ended = subprocess.run(
            command, env=environment, stdout=log, stderr=log, pass_fds=[attempt.lock], check=False
        )
    if ended.returncode != 0:
        log_text = job.log.read_text(encoding="utf-8", errors="replace")
        lines = [line for line in log_text.splitlines() if line.startswith("error: ")]
        reason = lines[-1].removeprefix("error: ") if lines else f"exit status {ended.returncode}"
        pruned = f"{TrialPruned.__name__}: "
        raise TrialPruned(reason.removeprefix(pruned)) if reason.startswith(pruned) else RuntimeError(reason)


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Inside, what is printed goes to the end of a file."""
    with path.open("a", buffering=1, encoding="utf-8") as file, redirect_stdout(file), redirect_stderr(file):
        yield


# Memory between the jobs that one process runs one after the other.

_after_a_job = False


def give_back_memory() -> None:
    """Free what a job that has ended left behind; the images stay, for the next job.

    Looking through every object of torch, Lightning and W&B takes a third of a second. What is alive after the
    first job, those libraries above all, is therefore exempt from the search after each later job.
    """
    global _after_a_job
    gc.collect()
    if not _after_a_job:
        exempt_what_is_alive()
        _after_a_job = True
    _empty_gpu_caches()


def give_back_everything() -> None:
    """Free the images, too: there are no more jobs in this process."""
    global _after_a_job
    # Not imported here: a sweep whose jobs are in other processes has no images, and no need of torch.
    if images := sys.modules.get("vae.data.shared_images"):
        images.forget_images()
    gc.unfreeze()
    _after_a_job = False
    gc.collect()
    _empty_gpu_caches()


def _empty_gpu_caches() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
