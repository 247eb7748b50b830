"""`hydra/launcher=ray`: the jobs of a sweep, or its stacks, on a Ray of this machine or on a cluster."""

import inspect
from collections.abc import Sequence
from typing import Any

from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from vae.sweep.job import RecordedTask
from vae.sweep.launcher import members_of
from vae.sweep.stacked import composed_jobs, name_of, save, stacks, train_saved


class RayLauncher(Launcher):
    """Hands jobs to Hydra's launcher for Ray, and stacks to Ray itself.

    Args:
        ray: of Hydra's launcher, as in conf/hydra/launcher/ray.yaml.
    """

    config: DictConfig
    hydra_context: HydraContext

    def __init__(self, ray: DictConfig):
        from hydra_plugins.hydra_ray_launcher import ray_launcher

        self.ray_cfg, self.plugin = ray, ray_launcher.RayLauncher(ray)

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra with the sweep's config and what a job is."""
        self.hydra_context, self.config, self.task_function = hydra_context, config, task_function
        self.plugin.setup(hydra_context=hydra_context, task_function=task_function, config=config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[Any]:
        """Run all jobs; their results are in their directories."""
        if (members := members_of(self.config)) is None:
            return self.plugin.launch(job_overrides, initial_job_idx)
        import ray

        given: Any = OmegaConf.to_container(self.ray_cfg, resolve=True)
        if not ray.is_initialized():
            ray.init(**given["init"])
        jobs = composed_jobs(self.hydra_context, self.config, job_overrides, initial_job_idx)
        save(jobs)
        train = ray.remote(**given["remote"])(train_saved)
        parts = stacks(jobs, members)
        assert isinstance(self.task_function, RecordedTask)
        task, trust = name_of(inspect.unwrap(self.task_function.task)), [*self.config.trust]
        runs = [train.remote(task, [str(path) for path, _ in part], trust) for part in parts]
        return [ray.get(run) for run in runs]
