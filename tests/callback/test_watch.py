"""What is logged beside training, and the warning of posterior collapse."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn

from vae.training.build import build_module, build_trainer


def fit(config: DictConfig, collapsed: bool = False) -> None:
    """Train as a config says, from a posterior that is the prior for every image if it is to be `collapsed`."""
    data = instantiate(config.data)
    module = build_module(config, data)
    if collapsed:
        for parameter in module.model.posterior.parameters():
            nn.init.zeros_(parameter)
    build_trainer(config).fit(module, data)


QUICK = [
    "logger=csv",
    "callback=none",
    "callback.watch={_target_:vae.callback.watch.Watch,every_n_epochs:4,images:180,nll_k:10}",
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
    assert float(rows[-1]["val/sigma"]) == pytest.approx(0.15)
    assert float(rows[-1]["val/nll"]) < -float(rows[-1]["val/elbo"]) + 5
    # In closed form, as those of the validation are: estimated from 50 draws each was 0.02 nats too large.
    rates = [float(rows[-1][f"latent/rate_{d:03d}"]) for d in (1, 2)]
    assert sum(rates) == pytest.approx(float(rows[-1]["val/rate"]), rel=1e-5)


def test_it_warns_of_collapse_once_as_soon_as_it_is_seen(
    composed: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    # Not in an epoch in which it measures, and with five latents, of which each counted for too much.
    fit(composed(*QUICK, "objective.beta=1e5", "latent_size=5", "trainer.max_epochs=3"))
    warnings = [line for line in capsys.readouterr().err.splitlines() if "posterior collapse" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: after epoch 1: posterior collapse: 0 active units and a rate of 0.0")
    assert ".py" not in warnings[0]


def test_a_model_that_is_to_have_no_latents_is_not_warned_of(
    composed: Callable[..., DictConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    without = ["network=unconditional", "posterior=independent", "latent_size=1"]
    fit(composed(*[each for each in QUICK if "hidden_sizes" not in each and "latent_size" not in each], *without))
    assert "posterior collapse" not in capsys.readouterr().err


def test_five_collapsed_latents_have_rates_of_nothing_and_are_warned_of(
    composed: Callable[..., DictConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    still = ("optimizer.lr=1e-9", "trainer.max_epochs=1", "callback.watch.every_n_epochs=1")
    fit(composed(*QUICK, *still, "latent_size=5"), collapsed=True)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    assert [float(last[f"latent/rate_{d:03d}"]) for d in range(1, 6)] == pytest.approx([0.0] * 5, abs=1e-6)
    assert float(last["val/rate"]) == pytest.approx(0, abs=1e-6)
    assert "posterior collapse: 0 active units and a rate of" in capsys.readouterr().err
