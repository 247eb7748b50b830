"""The run directory: what is in it, and how to load it."""

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf

from vae.build import build_model
from vae.checks import ConfigError, check_choice
from vae.files import write_atomically
from vae.model import LatentModel


class RunDirectory:
    """The files of one run.

    ```
    .hydra/config.yaml   the resolved config
    checkpoints/         best.ckpt (by val/elbo), last.ckpt
    metrics.csv          every logged number
    metrics.json         the final numbers; it is there if and only if the run completed
    images/  wandb/
    ```
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config_file = self.path / ".hydra" / "config.yaml"
        self.metrics_file = self.path / "metrics.json"
        self.images = self.path / "images"

    def checkpoint(self, name: str = "best") -> Path:
        """The path of a checkpoint, `best` or `last`.

        Raises:
            ConfigError: this is no run directory, or it has no such checkpoint.
        """
        path = self.path / "checkpoints" / f"{check_choice('checkpoint', name, ('best', 'last'))}.ckpt"
        self.config()
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such checkpoint; the run ended before its first epoch did")
        return path

    def last_checkpoint(self) -> Path | None:
        """Where to continue an interrupted run; None if it ended before its first epoch did."""
        path = self.path / "checkpoints" / "last.ckpt"
        return path if path.is_file() else None

    def config(self) -> DictConfig:
        """The resolved config.

        Raises:
            ConfigError: this is no run directory.
        """
        if not self.config_file.is_file():
            raise ConfigError(f"{self.path}: not a run directory (it has no .hydra/config.yaml)")
        config = OmegaConf.load(self.config_file)
        assert isinstance(config, DictConfig)
        return config

    def write_config(self, config: DictConfig) -> None:
        """Save a config with every interpolation resolved, so that it means the same on any day and machine."""
        resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
        write_atomically(self.config_file, OmegaConf.to_yaml(resolved))

    def write_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """Write metrics.json: flat, sorted, with null for what is not a finite number."""
        finite = {name: value if math.isfinite(value) else None for name, value in sorted(metrics.items())}
        write_atomically(self.metrics_file, json.dumps(finite, indent=2) + "\n")

    def metrics(self) -> dict[str, float]:
        """The final numbers."""
        return json.loads(self.metrics_file.read_text())


def finish_loggers(trainer: Trainer) -> None:
    """Save what the loggers hold and end this run's W&B run, so that the next job starts one of its own."""
    for logger in trainer.loggers:
        logger.save()
    if "wandb" in sys.modules and trainer.is_global_zero:
        sys.modules["wandb"].finish()


def closing_lines(run: RunDirectory, metrics: Mapping[str, float]) -> str:
    """What a finished run tells its user: the bound, and where things are."""
    numbers = [f"{name} {metrics[name]:.4g}" for name in ("test/elbo", "test/nll") if name in metrics]
    return "\n".join(
        [
            f"Finished in {metrics['seconds']:.0f} s: {', '.join(numbers)} (nats per image)",
            f"  numbers   {run.metrics_file}",
            f"  pictures  {run.images}",
            f"  model     {run.path}",
        ]
    )


def load_model(run: str | Path, checkpoint: str = "best") -> LatentModel:
    """The trained model of a run directory, in evaluation mode on the CPU.

    Args:
        run: the run's directory.
        checkpoint: `best` (by val/elbo) or `last`.

    Raises:
        ConfigError: this is no run directory, or it has no such checkpoint.
    """
    directory = RunDirectory(run)
    config = directory.config()
    with torch.random.fork_rng(devices=[]):
        model = build_model(config, instantiate(config.data).image_shape)
    state = torch.load(directory.checkpoint(checkpoint), map_location="cpu", weights_only=True)["state_dict"]
    prefix = "model."
    model.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    return model.eval()
