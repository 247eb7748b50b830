"""The presets under conf/experiment are what their sources say, and each has a short form of the same model."""

from collections.abc import Callable

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vae.paths import CONF
from vae.training.build import build_module

NAMES = sorted(file.stem for file in (CONF / "experiment").glob("*.yaml"))
FULL = [name for name in NAMES if not name.endswith("_short") and name not in ("iwae", "mnist_2d")]


@pytest.mark.parametrize("name", FULL)
def test_the_short_form_is_the_same_model(name: str, composed: Callable[..., DictConfig]) -> None:
    """Only how long and how fast it is trained differs."""
    full, short = composed(f"experiment={name}"), composed(f"experiment={name}_short")
    for part in ("init", "latent_size", "network", "posterior", "prior", "likelihood", "corruption"):
        assert short[part] == full[part], part
    assert short.trainer.max_epochs < full.trainer.max_epochs
    for key in ("_target_", "k", "kl", "gradient", "free_bits"):
        assert short.objective.get(key) == full.objective.get(key), key
    assert short.data.binarize == full.data.binarize


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_where_it_comes_from(name: str) -> None:
    lines = (CONF / "experiment" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith("# ")


def test_burdas_model_and_schedule(composed: Callable[..., DictConfig]) -> None:
    config = composed("experiment=burda_iwae")
    module = build_module(config, instantiate(config.data))
    assert sum(p.numel() for p in module.parameters()) == 425_284
    optimizer = module.optimizer([torch.zeros(1, requires_grad=True)])
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert optimizer.defaults["eps"] == 1e-4
    assert module.scheduler is not None
    scheduler = module.scheduler(optimizer)
    rates = []
    for _ in range(config.trainer.max_epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    # Stage i has 3^i epochs at 1e-3 · 10^(−i/7).
    assert rates == pytest.approx([1e-3 * 10 ** (-i / 7) for i in range(8) for _ in range(3**i)])


def test_the_objectives_differ_as_their_names_do(composed: Callable[..., DictConfig]) -> None:
    gradient = {n: composed(f"experiment={n}").objective.gradient for n in ("burda_iwae", "stl", "dreg")}
    assert gradient == {"burda_iwae": "standard", "stl": "stl", "dreg": "dreg"}
    assert composed("experiment=burda_vae").objective["_target_"].endswith("ELBO")
    iwae, short = composed("experiment=iwae"), composed("experiment=burda_iwae_short")
    assert all(iwae[part] == short[part] for part in ("data", "network", "objective", "optimizer", "trainer"))


def test_what_the_command_line_says_comes_on_top(composed: Callable[..., DictConfig]) -> None:
    config = composed("experiment=burda_vae_short", "objective.k=5", "trainer.max_epochs=2")
    assert (config.objective.k, config.trainer.max_epochs, config.data.batch_size) == (5, 2, 100)
    assert OmegaConf.select(config, "scheduler.T_max") == 2
