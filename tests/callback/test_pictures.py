"""Which pictures are drawn of which models."""

from collections.abc import Callable

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from vae.callback.pictures import LARGE, LARGEST, Pictures
from vae.training.build import build_module


@pytest.mark.parametrize(
    ("latents", "posterior", "has_density"),
    [
        (LARGE - 1, "diagonal_gaussian", False),
        (LARGE, "diagonal_gaussian", True),
        (LARGEST + 1, "diagonal_gaussian", False),
        (2, "delta", True),
        (LARGEST + 1, "delta", False),
    ],
)
def test_a_density_is_fitted_to_many_latents_but_not_to_thousands(
    latents: int, posterior: str, has_density: bool, composed: Callable[..., DictConfig]
) -> None:
    is_sampled = posterior != "delta"
    objective = [] if is_sampled else ["objective=reconstruction"]
    config = composed(f"latent_size={latents}", f"posterior={posterior}", "network.hidden_sizes=[16]", *objective)
    data = instantiate(config.data)
    data.prepare_data()
    data.setup("test")
    module = build_module(config, data)
    with torch.no_grad():
        sheets = Pictures("nowhere")._final_sheets(module.model, data, module.corruption)
    assert ("samples_density" in sheets) == has_density
