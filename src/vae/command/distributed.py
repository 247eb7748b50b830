"""Several processes for one run."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vae.command.override import override
from vae.run.directory import RunDirectory

CHILD = "VAE_CHILD_OF_PROCESS"
RERUN = "rerun"
"""`rerun=<run>`: train what this project has just saved as that run's config. Not for users, who have resume=."""
SAVED = "saved_run"
"""The name under which Hydra finds a saved config."""


def is_child() -> bool:
    """Whether this process is a further rank that the first one started."""
    return CHILD in os.environ


def end_with_parent(parent: int | None = None) -> None:
    """End when the process that started this one does, however and however early that ends.

    Args:
        parent: that process; None in a further rank, which knows it.
    """
    parent = int(os.environ[CHILD]) if parent is None else parent

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()


@contextmanager
def as_further_rank() -> Iterator[None]:
    """Inside, this process, which a scheduler has started, counts as a further rank of a run."""
    os.environ[CHILD] = str(os.getppid())
    try:
        yield
    finally:
        del os.environ[CHILD]


@contextmanager
def children_run_this_config(run: RunDirectory) -> Iterator[None]:
    """Inside, the ranks that Lightning starts get this run's resolved config and this run's directory.

    By itself Lightning (2.6) repeats this process's command line in the children. Of a sweep that is the
    whole sweep, `-m` included, which would then run again in every rank, in folders of its own and, with
    an adaptive sweeper, with other hyper-parameters. So for the time of the run the command line is one
    that reads the saved config, and Hydra's singleton, from which Lightning would add a directory, is set
    aside. The environment is put back, so that one job's rank and port do not leak into the next.
    """
    argv, environment, hydra = list(sys.argv), dict(os.environ), HydraConfig.instance().cfg
    sys.argv = [argv[0], *rerun_arguments(run.path)]
    HydraConfig.instance().cfg = None
    os.environ[CHILD] = str(os.getpid())
    try:
        yield
    finally:
        sys.argv = argv
        HydraConfig.instance().cfg = hydra
        os.environ.clear()
        os.environ.update(environment)


@contextmanager
def children_run_this_command() -> Iterator[None]:
    """Inside, the ranks that Lightning starts repeat this process's command line as it is.

    Hydra's singleton, from which Lightning would add a directory to it, is set aside meanwhile.
    """
    hydra = HydraConfig.instance().cfg
    HydraConfig.instance().cfg = None
    try:
        yield
    finally:
        HydraConfig.instance().cfg = hydra


def rerun_arguments(run: Path) -> list[str]:
    """Arguments with which train.py works on the config that this command has saved, in that run's directory."""
    return [f"{RERUN}={run.absolute()}"]


def saved_arguments(run: Path, config: DictConfig) -> list[str]:
    """Hydra's arguments for a saved config. Hydra is given the config itself, and no file or folder of the run's.

    In the folder of a config Hydra would look for further ones, its own among them.
    """
    ConfigStore.instance().store(SAVED, OmegaConf.to_container(config, resolve=False))
    return [
        f"--config-name={SAVED}",
        "hydra/job_logging=stdout",
        "hydra.output_subdir=null",
        override("hydra.run.dir", run.absolute()),
    ]
