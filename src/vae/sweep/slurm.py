"""`hydra/launcher=submitit_slurm`: the jobs of a sweep as a SLURM array.

submitit writes the script, and queues a job again at its time limit. What became of the jobs is asked of SLURM's
own queue, which needs no accounting; submitit asks `sacct` alone.
"""

import inspect
import io
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.singleton import Singleton
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError
from vae.sweep.directory import JobDirectory
from vae.sweep.job import Ends, RecordedTask
from vae.sweep.launcher import members_of
from vae.sweep.stacked import composed_jobs, name_of, save, stacks, train_saved

MOST_CPUS = 8
"""CPUs for a task by default, where there are so many."""
OF_EVERY_EXECUTOR = (
    *("name", "timeout_min", "cpus_per_task", "gpus_per_node", "tasks_per_node", "mem_gb", "nodes"),
    "stderr_to_stdout",
)
"""submitit's parameters that do not begin with the executor's name."""
TOLD = (
    *("partition", "nodes", "tasks_per_node", "cpus_per_task", "gpus_per_node", "mem_gb", "gres"),
    *("constraint", "account", "qos"),
)
"""What a user is told of what jobs ask for, when they wait."""
OVER = ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "TIMEOUT")
"""SLURM's states of jobs that do not go on by themselves (PREEMPTED may be queued again)."""
GONE = "UNKNOWN"
"""Of a job that the queue has forgotten."""


Elements = tuple[Callable[..., Any], list[tuple[Any, ...]], list[list[JobDirectory]]]
"""Of an array: what each element calls, the arguments of each, and the directories of its jobs."""


class Nodes(NamedTuple):
    """Nodes of a partition that are alike."""

    cpus: int
    gpus: int


def nodes_of(partition: str | None) -> list[Nodes]:
    """Return the kinds of nodes in a partition, or in the default one; none where `sinfo` does not say."""
    try:
        lines = _ask("sinfo", "--noheader", "--exact", "--format=%P|%c|%G").splitlines()
    except (OSError, subprocess.CalledProcessError):
        return []
    found = []
    for line in lines:
        name, cpus, resources = line.strip().split("|")
        if name.rstrip("*") == partition or (partition is None and name.endswith("*")):
            # Such as `gpu:a100:4(S:0-1),gpu:h100:2` and, of nodes that differ, `8+`.
            each = [part.partition("(")[0].split(":") for part in resources.split(",")]
            gpus = sum(int(part[-1]) for part in each if part[0] == "gpu" and part[-1].isdigit())
            found.append(Nodes(int(cpus.rstrip("+")), gpus))
    return found


def slurm_gpus(devices: Any, partition: str | None, accelerator: str) -> Any:
    """Return how many GPUs a job asks for on each node: `trainer.devices`, and none where no node has any."""
    nodes = nodes_of(partition)
    if accelerator == "cpu" or (nodes and not any(node.gpus for node in nodes)):
        return None
    return devices


def slurm_cpus(tasks: Any, partition: str | None, gpus: Any) -> int:
    """CPUs that each task asks for: a GPU's share of a node's, at most 8; for more it would wait for ever."""
    nodes = nodes_of(partition)
    fit = [node for node in nodes if node.gpus or not gpus] or nodes
    tasks = int(tasks) if str(tasks).isdigit() else 1
    shares = [node.cpus // max(tasks, node.gpus if gpus else 1) for node in fit]
    return max(1, min(MOST_CPUS, max(shares, default=MOST_CPUS)))


class SlurmLauncher(Launcher):
    """Submits jobs as an array, each or each stack as one element, and waits until all have ended.

    Args:
        params: of Hydra's submitit launcher, as in conf/hydra/launcher/submitit_slurm.yaml.
    """

    config: DictConfig

    def __init__(self, **params: Any):
        from hydra_plugins.hydra_submitit_launcher import submitit_launcher

        self.params: dict[str, Any] = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in params.items()
        }
        self.element = submitit_launcher.SlurmLauncher(**params)
        """What an element of the array runs: it composes its job's config there."""

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra with the sweep's config and what a job is: a training, or an evaluation."""
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config
        self.element.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        """Run all jobs; their results are in their directories.

        Raises:
            ConfigError: SLURM does not take them.
            ChildProcessError: jobs ended without a result, and not because somebody cancelled them.
        """
        apart = members_of(self.config) is None
        element, arguments, groups = (self._jobs if apart else self._stacks)(job_overrides, initial_job_idx)
        task: Any = self.task_function
        ends = task.ends([job for group in groups for job in group])
        watch = Watch(groups, ends, self._asked_for(), self._folder())
        watch.wait(self._submit(element, arguments))
        return []

    def _jobs(self, job_overrides: Sequence[Sequence[str]], first: int) -> Elements:
        """Return an element for each job, which composes its config there."""
        arguments = [
            (list(overrides), "hydra.sweep.dir", number, f"job_id_for_{number}", Singleton.get_state())
            for number, overrides in enumerate(job_overrides, first)
        ]
        return self.element, arguments, [[self._directory(overrides)] for overrides in job_overrides]

    def _stacks(self, job_overrides: Sequence[Sequence[str]], first: int) -> Elements:
        """Return an element for each stack, which finds its jobs' configs saved."""
        jobs = composed_jobs(self.hydra_context, self.config, job_overrides, first)
        save(jobs)
        groups = [[JobDirectory(path) for path, _ in stack] for stack in stacks(jobs, members_of(self.config))]
        arguments = [([str(job.path) for job in group],) for group in groups]
        assert isinstance(self.task_function, RecordedTask)
        task = name_of(inspect.unwrap(self.task_function.task))
        return Stack(task, [*self.config.trust]), arguments, groups

    def _directory(self, overrides: Sequence[str]) -> JobDirectory:
        parsed = OverridesParser.create().parse_overrides(list(overrides))
        values = {override.key_or_group: override.value() for override in parsed}
        return JobDirectory(Path(str(values["hydra.sweep.dir"]), str(values["hydra.sweep.subdir"])))

    def _submit(self, element: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> list[str]:
        """Submit an array whose elements call `element` with the arguments of each; SLURM's ids of them."""
        import submitit
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        parameters = dict(self.params)
        # srun (since SLURM 22.05) gives a task one CPU unless it is told so itself.
        own = ["export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"] if parameters.get("cpus_per_task") else []
        parameters["setup"] = [*own, *(parameters.get("setup") or [])] or None
        executor = submitit.AutoExecutor(
            cluster="slurm",
            folder=parameters.pop("submitit_folder"),
            slurm_max_num_timeout=parameters.pop("max_num_timeout"),
        )
        executor.update_parameters(
            **{key if key in OF_EVERY_EXECUTOR else f"slurm_{key}": value for key, value in parameters.items()}
        )
        try:
            with redirect_stderr(io.StringIO()):  # it prints what it raises, too
                jobs = executor.map_array(element, *zip(*arguments, strict=True))
        except (FailedJobError, FailedSubmissionError) as error:
            lines = [line for line in str(error).splitlines() if "error:" in line] or [str(error)]
            reason = " ".join(line.partition("error:")[2].strip() or line for line in lines)
            raise ConfigError(
                f"hydra/launcher=submitit_slurm: SLURM does not take the jobs: {reason} ({self._asked_for()})"
            ) from error
        for link in self._folder().glob(".submission_file_*.sh"):
            # submitit leaves one to the script, and a sweep with links in its folder is refused to be read.
            link.unlink()
        return [job.job_id for job in jobs]

    def _folder(self) -> Path:
        """Return submitit's folder, within the sweep's directory."""
        return Path(self.params["submitit_folder"]).parent

    def _asked_for(self) -> str:
        asked = [f"{key}={self.params[key]}" for key in TOLD if self.params.get(key) is not None]
        return f"hydra.launcher asks for {', '.join(asked)}"


class Stack:
    """What an element of the array runs where jobs of equal shape are trained as one.

    Args:
        task: what trains a job, as `vae.sweep.stacked.name_of` has it.
        trust: packages whose classes the jobs' configs may name.
    """

    def __init__(self, task: str, trust: Sequence[str]):
        self.task, self.trust = task, trust

    def __call__(self, paths: Sequence[str]) -> None:
        train_saved(self.task, paths, self.trust)

    def checkpoint(self, paths: Sequence[str]) -> Any:
        """Return what submitit queues again at the time limit: the same, as each job goes on from its
        checkpoint.
        """
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self, paths)


class Watch:
    """Waits for jobs, and says why they wait.

    Args:
        groups: the directories of those that are one job of SLURM's each, before these are submitted.
        ends: how their ends show there.
        asked_for: what they ask SLURM for, in words.
        logs: the folder in which each has, under its id, what it printed before its own log was open.
        seconds: between two looks at the queue. After a job's end as long is waited for its files to show.
    """

    def __init__(
        self,
        groups: Sequence[Sequence[JobDirectory]],
        ends: Ends,
        asked_for: str,
        logs: Path,
        seconds: float = 20.0,
    ):
        self.ends, self.asked_for, self.logs, self.seconds = ends, asked_for, logs, seconds
        self._groups = list(groups)
        self._left = dict[str, list[JobDirectory]]()
        self._said = set[str]()
        self._over = dict[str, str]()
        self._lost = dict[str, str]()

    def wait(self, ids: Sequence[str]) -> None:
        """Return when every job has ended.

        Args:
            ids: SLURM's, of the groups in their order.

        Raises:
            ChildProcessError: some without a result.
        """
        self._left = {name: list(group) for name, group in zip(ids, self._groups, strict=True)}
        looked = began = time.monotonic()
        while self._forget_ended():
            # Reading the files of thousands of jobs takes a twentieth of the time at most.
            time.sleep(max(1.0, 19 * (time.monotonic() - began)))
            if time.monotonic() - looked > self.seconds:
                self._look()
                looked = time.monotonic()
            began = time.monotonic()
        if self._lost:
            counts = ", ".join(f"{n} {state}" for state, n in Counter(self._lost.values()).items())
            first = self.logs / next(iter(self._lost))
            raise ChildProcessError(f"SLURM ended jobs: {counts}; {first} has what the first of them printed")

    def _forget_ended(self) -> bool:
        """Return whether there is still something to wait for."""
        left = {name: [job for job in group if not self.ends.has_come(job)] for name, group in self._left.items()}
        self._left = {name: group for name, group in left.items() if group}
        return bool(self._left)

    def _look(self) -> None:
        """Ask SLURM, and let go of what it says is over, once it has said so twice."""
        queue = queue_of({name.partition("_")[0] for name in self._left})
        if queue is None:  # the controller does not answer; it will
            return
        before, self._over = self._over, {}
        for name in list(self._left):
            state, _ = queue.get(name, (GONE, ""))
            if state not in (*OVER, GONE):
                continue
            self._over[name] = state
            if name not in before:
                continue
            if state != "CANCELLED":
                self._lost[name] = state
            for job in self._left.pop(name):
                if state == "CANCELLED":
                    # By the user: it is not for the sweep to start it again.
                    self.ends.cancel(job, "cancelled in SLURM (scancel)")
                else:
                    self.ends.explain(job, f"SLURM: {state}")
        self._say_why({name: queue[name] for name in self._left if name in queue})

    def _say_why(self, queue: Mapping[str, tuple[str, str]]) -> None:
        """Print each new reason for which jobs wait, unless others run."""
        if any(state == "RUNNING" for state, _ in queue.values()):
            return
        reasons = Counter(reason for state, reason in queue.values() if state == "PENDING")
        for reason, count in reasons.items():
            if reason not in self._said:
                self._said.add(reason)
                line = f"SLURM: {count} of {len(self._left)} jobs wait ({reason}); {self.asked_for}"
                print(f"\r\033[K{line}" if sys.stdout.isatty() else line, flush=True)


def queue_of(arrays: Sequence[str] | set[str]) -> dict[str, tuple[str, str]] | None:
    """State and reason of each job of some arrays, by its id; None where SLURM does not answer."""
    names = ",".join(sorted(arrays))
    try:
        text = _ask("squeue", "--noheader", "--array", "--states=all", f"--jobs={names}", "--format=%i|%T|%r")
    except subprocess.CalledProcessError as error:
        return {} if "Invalid job id" in str(error.stderr) else None
    except OSError:
        return None
    rows = [line.strip().split("|", 2) for line in text.splitlines() if line.strip()]
    return {name: (state, reason) for name, state, reason in rows}


def _ask(*command: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SINFO_"))}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60).stdout
