"""Several processes for one run."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError
from vae.command.override import override

if TYPE_CHECKING:
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    from vae.run.directory import RunDirectory

CHILD = "VAE_CHILD_OF_PROCESS"
RERUN = "rerun"
"""`rerun=<run>`: train what this project has just saved as that run's config. Not for users, who have resume=."""
SAVED = "saved_run"
"""The name under which Hydra finds a saved config."""
ENDS_WITH = "VAE_ENDS_WITH_PROCESS"
"""Of a command: the process that started it, without which it is not to go on."""


def is_child() -> bool:
    """Return whether this process is a further rank that the first one started."""
    return CHILD in os.environ


def end_with_parent(parent: int) -> None:
    """End when the process that started this one does, however and however early that ends."""
    end_when(lambda: os.getppid() != parent)


def end_when(over: Callable[[], bool]) -> None:
    """End this process, whatever it is doing, within about a second of when `over` becomes true."""

    def watch() -> None:
        while not over():
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-when").start()


def end_with_whoever_started_this() -> None:
    """End with the first rank, in a further one; with the sweep's process, in a job's command of its own."""
    parent = os.environ.pop(ENDS_WITH, None)
    if is_child():
        parent = os.environ[CHILD]
    if parent is not None:
        end_with_parent(int(parent))


@contextmanager
def as_further_rank() -> Iterator[None]:
    """Inside, this process, which a scheduler has started, counts as a further rank of a run."""
    os.environ[CHILD] = str(os.getppid())
    try:
        yield
    finally:
        del os.environ[CHILD]


@contextmanager
def children_run_this_config(run: "RunDirectory") -> Iterator[None]:
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


# Ranks that somebody else has started, one by one, with the same command line: torchrun and SLURM's srun.


class Started(NamedTuple):
    """This process as one of those that `by` has started."""

    by: str
    rank: int
    processes: int
    nodes: int


FIRST_MUST_SPEAK = timedelta(minutes=10)
"""For so long further ranks wait for the first to have read its images and saved its config."""

_store: "TCPStore | None" = None


def started() -> Started | None:
    """Return who has started this process as one of several; None if it is one by itself.

    SLURM's batch script is one process, too, whatever tasks it has asked for: it begins no step.
    """
    variables = os.environ
    if "TORCHELASTIC_RUN_ID" in variables and int(variables["WORLD_SIZE"]) > 1:
        local = int(variables["LOCAL_WORLD_SIZE"])
        processes = int(variables["WORLD_SIZE"])
        return Started("torchrun", int(variables["RANK"]), processes, max(1, processes // local))
    if "SLURM_STEP_ID" in variables and int(variables.get("SLURM_NTASKS", "1")) > 1:
        nodes = int(variables.get("SLURM_STEP_NUM_NODES", "1"))
        return Started("srun", int(variables["SLURM_PROCID"]), int(variables["SLURM_NTASKS"]), nodes)
    return None


def what_to_type(there: Started) -> str:
    """Return the command that fits so many processes, and the one that needs no starter."""
    each = there.processes // there.nodes
    keys = f"trainer.devices={each}" + (f" trainer.num_nodes={there.nodes}" if there.nodes > 1 else "")
    starter = f"srun --ntasks-per-node={each}" if there.by == "srun" else f"torchrun --nproc-per-node={each}"
    alone = "" if there.nodes > 1 else f", or without {there.by}: python train.py {keys} …"
    return f"{starter} {'python ' if there.by == 'srun' else ''}train.py {keys} …{alone}"


@contextmanager
def first_rank_leads(argv: list[str]) -> Iterator[list[str]]:
    """The arguments for this process: in a further rank those with which it works on the first one's saved config.

    Each would otherwise draw a directory of its own. Inside, the first rank's failure is told to the others.
    """
    there = started()
    if there is None or is_child():
        yield argv
        return
    global _store
    _store = _meeting_point(there)
    if there.rank == 0:
        try:
            yield argv
        except BaseException:
            _store.set(_key(), "")
            raise
        return
    try:
        path = _store.get(_key()).decode()
    except RuntimeError as error:  # torch's, also for a connection that is lost
        raise ConfigError(f"rank {there.rank}: nothing was heard of the first rank") from error
    if not path:
        raise SystemExit(1)  # the first has said why
    with as_further_rank():
        yield [argv[0], *rerun_arguments(Path(path))]


def tell_further_ranks(run: Path) -> None:
    """Tell those that somebody else has started where this run, whose config is saved, has its directory."""
    if _store is not None and not is_child():
        _store.set(_key(), str(run.absolute()))


def _key() -> str:
    return f"vae/run/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def _meeting_point(there: Started) -> "TCPStore":
    """Return a store of torchrun's own; or one that the first rank keeps, beside the port that Lightning will
    use.
    """
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    if there.by == "torchrun":
        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        shared = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    else:
        from lightning.fabric.plugins.environments.slurm import SLURMEnvironment

        host = os.environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(
            os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
        )
        port, shared = int(os.environ.get("MASTER_PORT") or 15000 + int(os.environ["SLURM_JOB_ID"][-4:])), False
        # Lightning asks for it, and srun says it only where it was asked for so many a node.
        os.environ.setdefault("SLURM_NTASKS_PER_NODE", str(there.processes // there.nodes))
    return TCPStore(
        host,
        port if shared else port + 10_000,
        is_master=not shared and there.rank == 0,
        wait_for_workers=False,
        timeout=FIRST_MUST_SPEAK,
    )
