"""`hydra/launcher=stacked`: jobs of equal shape trained as one program in each process.

Each job has the directory, the records and the numbers that it would have under any other launcher. A process for
each GPU, or for each core where there is none, gets its share of every group of jobs that may be stacked. With
`sweep.members` each stack is one job of SLURM's or Ray's.
"""

import inspect
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from vae.checks import ConfigError, check_int
from vae.command.override import folder_arguments
from vae.run.trust import trusting, typed_folders
from vae.sweep.devices import cpu_count, gpu_count
from vae.sweep.job import Attempt, RecordedTask, Task, give_back_memory, output_to

Jobs = list[tuple[Path, DictConfig]]
"""The directories of jobs, and their configs."""

MAY_DIFFER = {
    "": ("seed", "init", "start_from_mean", "name", "resume", "open", "monitor", "sweep_metric", "sweep"),
    "data": ("seed",),
    "likelihood": ("sigma", "init_sigma", "min_sigma", "init_scale", "min_scale"),
    "posterior": ("init_sigma",),
    "trainer": ("max_epochs", "max_steps", "default_root_dir"),
}
"""Keys of a config, by group, whose values are not the same for all members of a stack; beside them numbers of the
objective and of the optimiser."""
APART = ("callback", "logger", "metric", "paths", "hydra")
"""Groups that each member has for itself."""


class StackedLauncher(Launcher):
    """Trains jobs together, as many in a process as may be.

    Args:
        members: the most jobs in one stack; `auto` for as many as fit into the memory.
        processes: how many processes share the jobs; `auto` for one for each GPU or, without any, for each core.
    """

    config: DictConfig
    hydra_context: HydraContext
    task: Task

    def __init__(self, members: int | str = "auto", processes: int | str = "auto"):
        for key, value in (("members", members), ("processes", processes)):
            if value != "auto":
                if isinstance(value, str):
                    raise ConfigError(
                        f"hydra.launcher.{key}={value}: must be auto or a whole number of at least 1"
                    )
                check_int(f"hydra.launcher.{key}", value)
        self.members, self.processes = members, processes

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra with the sweep's config and what trains a job."""
        assert isinstance(task_function, RecordedTask)
        self.hydra_context, self.config, self.task = hydra_context, config, inspect.unwrap(task_function.task)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        """Train all jobs; their results are in their directories."""
        configs = composed_jobs(self.hydra_context, self.config, job_overrides, initial_job_idx)
        shares = shared_out(configs, self._processes(len(configs)))
        if len(shares) == 1:
            attempts = [Attempt(path, config, "stacked", ()) for path, config in configs]
            with trusting(self.config.trust):
                train_together(attempts, self.task, self.members)
        else:
            self._train_apart(shares)
        return []

    def _processes(self, jobs: int) -> int:
        """Return how many processes there are to be."""
        if self.processes != "auto":
            return min(int(self.processes), jobs)
        on_gpus = self.config.trainer.accelerator != "cpu" and gpu_count()
        return min(gpu_count() if on_gpus else cpu_count(), jobs)

    def _train_apart(self, shares: Sequence[Jobs]) -> None:
        """Give each share of the jobs to a process of its own."""
        on_gpus = self.config.trainer.accelerator != "cpu" and gpu_count() > 0
        visible = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(gpu_count())))).split(",")
        threads = max(1, cpu_count() // len(shares))
        workers = []
        for number, share in enumerate(shares):
            save(share)
            environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(threads))}
            if on_gpus:
                environment["CUDA_VISIBLE_DEVICES"] = visible[number % len(visible)]
            paths, trust = [str(path) for path, _ in share], [*self.config.trust]
            given = {"task": name_of(self.task), "paths": paths, "trust": trust, "members": self.members}
            command = [sys.executable, "-m", "vae.sweep.stacked", str(os.getpid())]
            worker = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, text=True)
            assert worker.stdin is not None
            worker.stdin.write(json.dumps(given))
            worker.stdin.close()
            workers.append(worker)
        try:
            statuses = [worker.wait() for worker in workers]
        except BaseException:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait()
            raise
        if any(statuses):
            raise ChildProcessError(
                f"a process of the stacked launcher ended with status {max(statuses, key=abs)}"
            )


def composed_jobs(
    context: HydraContext, config: DictConfig, job_overrides: Sequence[Sequence[str]], first: int
) -> Jobs:
    """Return the directory of each job, which is made and told what was typed for it, and its config, resolved.

    Args:
        context: Hydra's.
        config: the sweep's.
        job_overrides: of each job.
        first: the number of the first job.
    """
    return [_composed(context, config, overrides, number) for number, overrides in enumerate(job_overrides, first)]


def _composed(
    context: HydraContext, sweep: DictConfig, overrides: Sequence[str], number: int
) -> tuple[Path, DictConfig]:
    from vae.run.directory import RunDirectory  # here, as it needs torch, and Hydra imports this at every start

    config = context.config_loader.load_sweep_config(sweep, list(overrides))
    with open_dict(config):
        config.hydra.job.id, config.hydra.job.num = str(number), number
    path = Path(config.hydra.sweep.dir, config.hydra.sweep.subdir)
    path.mkdir(parents=True, exist_ok=True)
    RunDirectory(path).write_arguments([*folder_arguments(typed_folders()), *config.hydra.overrides.task])
    with open_dict(config):
        config.hydra.runtime.output_dir = str(path)
    before = HydraConfig.instance().cfg
    try:
        HydraConfig.instance().set_config(config)
        OmegaConf.resolve(config.paths)
        with open_dict(config):
            del config.hydra
        OmegaConf.resolve(config)
    finally:
        HydraConfig.instance().cfg = before
    return path, config


def shared_out(jobs: Jobs, processes: int) -> list[Jobs]:
    """Return the jobs of each process: of every group that may be stacked, each gets an equal part.

    A group is cut only so that no process is idle: the larger a stack, the less time each member takes.
    """
    shares: list[Jobs] = [[] for _ in range(processes)]
    for group in sorted(_groups(jobs), key=len, reverse=True):
        for part in _cut(group, max(1, round(len(group) * processes / len(jobs)))):
            min(shares, key=len).extend(part)
    return [share for share in shares if share]


def stacks(jobs: Jobs, members: int | str) -> list[Jobs]:
    """Return the jobs of each stack: at most so many that may be trained as one; `auto` for all of these."""
    return [
        part
        for group in _groups(jobs)
        for part in _cut(group, 1 if members == "auto" else -(-len(group) // int(members)))
    ]


def _groups(jobs: Jobs) -> list[Jobs]:
    """Return the jobs by what must be equal in a stack."""
    groups = defaultdict(list)
    for job in jobs:
        groups[stack_key(job[1])].append(job)
    return list(groups.values())


def _cut(group: Jobs, parts: int) -> list[Jobs]:
    """Return a group in so many parts, or fewer, none of which is larger than others by more than the rest."""
    size = -(-len(group) // parts)
    return [group[first : first + size] for first in range(0, len(group), size)]


def stack_key(config: DictConfig) -> str:
    """Return what must be equal for jobs to be trained as one."""
    whole = OmegaConf.to_container(config, resolve=True)
    assert isinstance(whole, dict)
    shared: dict[Any, Any] = {key: value for key, value in whole.items() if key not in APART}
    for group, keys in MAY_DIFFER.items():
        node = shared if group == "" else shared.get(group)
        if isinstance(node, dict):
            for key in keys:
                node.pop(key, None)
    padded = (
        str(config.posterior.get("_target_")).endswith(".DiagonalGaussian")
        and str(config.prior.get("_target_")).endswith(".StandardNormal")
        and float(config.posterior.get("init_sigma", 1)) == 1
        and not config.objective.get("free_bits")
    )
    shared["latent_size"] = "any" if padded else config.latent_size
    shared["objective"] = _without_numbers(shared.get("objective"))
    shared["optimizer"] = _without_numbers(shared.get("optimizer"))
    return json.dumps(shared, sort_keys=True)


def _without_numbers(node: Any) -> Any:
    """Return a config node in which every fraction is only that, as is β; 0 is something else, since it
    switches off.
    """
    if not isinstance(node, dict):
        return node
    return {
        key: "a number" if key == "beta" and isinstance(value, int | float)
        else "a number" if isinstance(value, float) and value != 0
        else value
        for key, value in node.items()
    }  # fmt: skip


def save(jobs: Jobs) -> None:
    """Save the configs of jobs, for `train_saved` in another process."""
    from vae.run.directory import RunDirectory  # here, as it needs torch, and Hydra imports this at every start

    for path, config in jobs:
        RunDirectory(path).write_config(config)


def name_of(task: Task) -> str:
    """Return where another process finds what trains a job."""
    # Of `python -m vae.train` the module is called __main__, which is another one there.
    return f"{task.__module__.replace('__main__', 'vae.train')}:{task.__name__}"


def train_saved(task: str, paths: Sequence[str], trust: Sequence[str], members: int | str = "auto") -> None:
    """Train jobs whose configs are saved, as one where they may be.

    Args:
        task: what trains a job, as `name_of` has it.
        paths: the jobs' directories.
        trust: packages whose classes their configs may name.
        members: the most jobs in a stack.
    """
    from vae.command.command import quiet_libraries
    from vae.run.directory import RunDirectory

    quiet_libraries()
    module, _, name = task.partition(":")
    train = inspect.unwrap(getattr(import_module(module), name))
    with trusting(trust):
        attempts = [Attempt(path, RunDirectory(path).config(), "stacked", ()) for path in paths]
        train_together(attempts, train, members)


def train_together(attempts: Sequence[Attempt], task: Task, members: int | str) -> None:
    """Train jobs in this process, those that may be stacked as one."""
    from vae.command.interruption import signals_interrupt
    from vae.training.meeting import Meeting  # here, as it needs torch

    def run(attempt: Attempt) -> None:
        with output_to(attempt.job.log):
            try:
                with attempt:
                    if not attempt.over:
                        task(attempt.config)
            except Exception:  # recorded
                pass

    meeting = Meeting(
        [stack_key(attempt.config) for attempt in attempts], None if members == "auto" else int(members)
    )
    try:
        with signals_interrupt():
            results = meeting.run([partial(run, attempt) for attempt in attempts])
    finally:
        give_back_memory()
    for result in results:
        if isinstance(result, BaseException):
            raise result


def main(parent: int, given: Mapping[str, Any]) -> None:
    """Train the jobs whose configs the launcher has saved, for as long as the launcher lives."""
    from vae.command.distributed import end_with_parent

    end_with_parent(parent)
    train_saved(**given)


if __name__ == "__main__":
    main(int(sys.argv[1]), json.load(sys.stdin))
