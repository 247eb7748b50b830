"""What is logged beside training, and the warning of posterior collapse."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig

from vae.training.build import build_module, build_trainer


def fit(config: DictConfig) -> None:
    data = instantiate(config.data)
    build_trainer(config).fit(build_module(config, data), data)


QUICK = [
    "logger=csv",
    "callback=none",
    "callback.watch={_target_:vae.callback.watch.Watch,every_n_epochs:4,images:50,nll_k:10}",
    "trainer.max_epochs=4",
    "optimizer.lr=0.01",
    "trainer.accelerator=cpu",
    "trainer.log_every_n_steps=5",
    "network.hidden_sizes=[16]",
    "latent_size=2",
]


def test_it_logs_gradients_noise_latents_and_likelihood(
    composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    fit(composed(*QUICK))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert sum(1 for row in rows if row["train/grad_norm"]) == 15
    assert float(rows[-1]["val/sigma"]) == 0.15
    assert float(rows[-1]["val/nll"]) < -float(rows[-1]["val/elbo"]) + 5
    rates = [float(rows[-1][f"latent/rate_{d:03d}"]) for d in range(2)]
    assert sum(rates) == pytest.approx(float(rows[-1]["val/rate"]), rel=0.2)


def test_it_warns_of_collapse(composed: Callable[..., DictConfig]) -> None:
    config = composed(*QUICK, "objective.beta=1e5")
    with pytest.warns(UserWarning, match="posterior collapse: .* active units"):
        fit(config)
