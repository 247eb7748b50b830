"""Python imports this at its start, its folder being in PYTHONPATH: it watches and disturbs processes that train.

PROBE_RECORDS  a folder: each process that trains leaves its config, rank and environment there
PROBE_KILL     a job's value such as `latent_size=3`: such a job's process is killed after its first epoch
PROBE_SIGNAL   by which, if not by SIGKILL
PROBE_ONCE     a file that the kill makes, and that prevents another
"""

import importlib.abc
import importlib.util
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

BUILD = "vae.training.build"


class Finder(importlib.abc.MetaPathFinder):
    """Wraps `build_trainer` as soon as something imports it."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name != BUILD:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def execute_and_wrap(module: Any) -> None:
            execute(module)
            module.build_trainer = wrapped(module.build_trainer)

        spec.loader.exec_module = execute_and_wrap  # type: ignore[method-assign]
        return spec


def wrapped(build_trainer: Any) -> Any:
    def build(config: Any) -> Any:
        environment = dict(os.environ)
        trainer = build_trainer(config)
        if folder := os.environ.get("PROBE_RECORDS"):
            record(Path(folder), config, trainer, environment)
        if is_victim(config):
            trainer.callbacks.append(killer())
        return trainer

    return build


def record(folder: Path, config: Any, trainer: Any, environment: dict[str, str]) -> None:
    from omegaconf import OmegaConf

    found = {
        "config": OmegaConf.to_container(config, resolve=True),
        "rank": trainer.global_rank,
        "world_size": trainer.world_size,
        "environment": environment,
    }
    (folder / f"{os.getpid()}-{len(list(folder.iterdir()))}.json").write_text(json.dumps(found))


def is_victim(config: Any) -> bool:
    key, _, value = os.environ.get("PROBE_KILL", "none=").partition("=")
    return str(config.get(key)) == value


def killer() -> Any:
    from lightning import Callback

    class Killer(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            once = os.environ.get("PROBE_ONCE")
            if trainer.current_epoch == 1 and not (once and Path(once).exists()):
                if once:
                    Path(once).touch()
                os.kill(os.getpid(), getattr(signal, os.environ.get("PROBE_SIGNAL", "SIGKILL")))

    return Killer()


# Processes that a shell starts in the background ignore the one, those that `nohup` starts the other.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
sys.meta_path.insert(0, Finder())
