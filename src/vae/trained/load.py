"""Loading of a trained model from a run's directory."""

from collections.abc import Iterable
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vae.data import ImageDataModule
from vae.run.checkpoint import load_weights
from vae.run.directory import RunDirectory
from vae.run.saved_config import readers_data
from vae.run.trust import trusting
from vae.trained.trained_model import TrainedModel
from vae.training.build import build_model


def data_config(config: DictConfig, paths: DictConfig) -> DictConfig:
    """Return the data config of a run, with other folders for its images and cache if `paths` names some.

    Args:
        config: the run's config.
        paths: `data` and `cache`, null for the folders that `vae.run.saved_config.readers_data` chooses.
    """
    plain = {
        "data": OmegaConf.to_container(config.data),
        "paths": {"data": OmegaConf.select(config, "paths.data")},
    }
    return OmegaConf.create(readers_data(plain, paths.get("data"), paths.get("cache")))


def run_data(config: DictConfig, paths: DictConfig) -> ImageDataModule:
    """Return the data module of a run, see `data_config`."""
    return instantiate(data_config(config, paths))


def load_model(run: str | Path, checkpoint: str = "best", trust: Iterable[str] = ()) -> TrainedModel:
    """Return the trained model of a run directory, in evaluation mode on the CPU.

    No code from a stranger's run is executed: its config is data, and may name only this project's classes.

    Args:
        run: the run's directory; or a folder that `vae.export` has written, with to=hub or to=safetensors.
        checkpoint: `best` (by val/elbo) or `last`.
        trust: packages whose classes the run may name too. If it does, their code is executed.

    Raises:
        ConfigError: this is no run directory, it has no such checkpoint, the two do not match, or it needs a
            package that is not trusted.
    """
    with trusting(trust):
        directory = RunDirectory(run)
        config = directory.model_config()
        data = run_data(config, OmegaConf.create())
        with torch.random.fork_rng(devices=[]):
            model = build_model(config, data.image_shape)
        load_weights(model, directory.checkpoint(checkpoint), prefix="model.")
    return TrainedModel(model.eval(), data)
