"""A sweep's directory as hundreds of jobs would leave it, without the training."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path

import torch
from omegaconf import DictConfig
from torchvision.utils import save_image

from vae.run.directory import RunDirectory
from vae.sweep.directory import SweepDirectory
from vae.sweep.plan import make_job

CURVE = 300


def write_fake_sweep(path: Path, seeds: int = 2, failed: int = 1) -> SweepDirectory:
    """3 latent sizes × 2 k × 3 σ × seeds; the last jobs failed. The numbers follow from the values."""
    values = itertools.product(("2", "8", "32"), ("1", "5"), ("0.1", "0.3", "1"), map(str, range(seeds)))
    keys = ("latent_size", "objective.k", "likelihood.sigma", "seed")
    jobs = [make_job(dict(zip(keys, each, strict=True))) for each in values]
    folder = SweepDirectory(path)
    constants = ["data=mnist", "name=a b", "sweep=latent_k_sigma"]
    with folder.claim({}):
        folder.write(jobs, identity={}, metric="val/elbo", axes=list(keys), constants=constants)
    save_image(torch.rand(1, 480, 480), folder.path / "noise.png")
    for index, job in enumerate(jobs):
        directory = folder.job(job.name)
        with directory.lock():
            directory.start()
            if index < len(jobs) - failed:
                numbers = [float(value) for value in job.values.values()]
                _write_run(directory.path, folder.path / "noise.png", *numbers)
                directory.finish("done")
            else:
                directory.finish("failed", "OutOfMemoryError: </script> CUDA out of memory")
    return folder


def write_fake_kinds(path: Path, composed: Callable[..., DictConfig]) -> SweepDirectory:
    """Three likelihoods, of which two are densities and one is a probability, and two seeds; all done."""
    values = itertools.product(("gaussian", "gaussian_learned", "categorical"), ("0", "1"))
    jobs = [make_job({"likelihood": kind, "seed": seed}) for kind, seed in values]
    folder = SweepDirectory(path)
    with folder.claim({}):
        folder.write(jobs, identity={}, metric="val/elbo", axes=["likelihood", "seed"], constants=[])
    save_image(torch.rand(1, 48, 48), folder.path / "noise.png")
    for place, job in enumerate(jobs):
        directory = folder.job(job.name)
        with directory.lock():
            directory.start()
            _write_run(directory.path, folder.path / "noise.png", 2, place // 2, 1, place % 2)
            RunDirectory(directory.path).write_config(composed(f"likelihood={job.values['likelihood']}"))
            directory.finish("done")
    return folder


def fake_elbo(latent_size: float, k: float, sigma: float, seed: float) -> float:
    """A number that differs for all jobs."""
    return -100 - latent_size / 10 + k / 7 - 30 * sigma + seed


def _write_run(path: Path, picture: Path, *numbers: float) -> None:
    elbo = fake_elbo(*numbers)
    rate = numbers[0] ** 0.5 / numbers[2]
    metrics = {
        f"{split}/{name}": value
        for split in ("val", "test")
        for name, value in {"elbo": elbo, "rate": rate, "distortion": -elbo - rate, "mse": numbers[2] / 50}.items()
    }
    (path / "metrics.json").write_text(json.dumps(metrics | {"epochs": CURVE, "steps": CURVE, "seconds": 9.0}))
    rows = ["step,epoch,train/elbo,val/elbo"]
    rows += [f"{e},{e},{elbo - 60 / (e + 1)},{elbo - 70 / (e + 1) if e % 2 else ''}" for e in range(CURVE)]
    (path / "metrics.csv").write_text("\n".join([*rows, ""]))
    (path / "images").mkdir()
    for name in ("samples", "reconstructions"):
        os.link(picture, path / "images" / f"{name}.png")
