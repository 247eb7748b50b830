"""Where Hydra looks for sweepers and launchers: it accepts only those of the package `hydra_plugins`.

Hydra imports this at every start, so it imports nothing heavy.
"""

from omegaconf import OmegaConf

from vae.sweep.adaptive import OptunaSweep
from vae.sweep.devices import gpus_per_job, jobs_at_once
from vae.sweep.evaluation import EvaluationSweep
from vae.sweep.launcher import ray_object_store
from vae.sweep.on_ray import RayLauncher
from vae.sweep.slurm import SlurmLauncher, slurm_cpus, slurm_gpus
from vae.sweep.stacked import StackedLauncher
from vae.sweep.sweeper import GridSweep

# Of the launchers' configs. Only asked by those that need it: the answer may need torch.
OmegaConf.register_new_resolver("jobs_at_once", jobs_at_once, replace=True)
OmegaConf.register_new_resolver("gpus_per_job", gpus_per_job, replace=True)
OmegaConf.register_new_resolver("ray_object_store", ray_object_store, replace=True)
OmegaConf.register_new_resolver("slurm_cpus", slurm_cpus, replace=True)
OmegaConf.register_new_resolver("slurm_gpus", slurm_gpus, replace=True)


class Grid(GridSweep):
    """`hydra/sweeper=basic`, in place of Hydra's own."""


class Optuna(OptunaSweep):
    """`hydra/sweeper=optuna`."""


class Ray(RayLauncher):
    """`hydra/launcher=ray`, around that of Hydra's plugin."""


class Evaluation(EvaluationSweep):
    """`vae.evaluate sweep=…`."""


class Slurm(SlurmLauncher):
    """`hydra/launcher=submitit_slurm`, around that of Hydra's plugin."""


class Stacked(StackedLauncher):
    """`hydra/launcher=stacked`."""
