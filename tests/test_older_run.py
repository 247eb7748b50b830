"""What older runs lack means what it meant to them, not what is the default today."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from vae.build import build_model
from vae.older_run import BEFORE, meaning_of_absence, with_meant_keys, with_newer_keys
from vae.run import RunDirectory

Composed = Callable[..., DictConfig]


def test_a_run_from_before_there_was_a_choice_begins_as_it_did(composed: Composed) -> None:
    config = composed("network=mlp", "init=torch", "start_from_mean=true")
    torch.manual_seed(3)
    model = build_model(config, (1, 8, 8))
    del config.init, config.start_from_mean, config.steps_at_once
    torch.manual_seed(3)
    older = build_model(with_newer_keys(config), (1, 8, 8))
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), older.parameters(), strict=True))
    assert model.encoder.layers[1].bias.ne(0).any()
    assert older.starts_from_mean


def test_a_run_directory_gives_the_older_meaning_and_todays_defaults(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_config(OmegaConf.create({"data": {}, "latent_size": 3, "on_nan": "skip"}))
    found = run.config()
    assert (found.init, found.start_from_mean, found.steps_at_once) == ("torch", True, "auto")
    assert (found.latent_size, found.on_nan) == (3, "skip")
    assert "name" not in found  # of which only Hydra knows


def test_what_was_before_is_about_keys_that_there_are_and_differs_from_today(composed: Composed) -> None:
    today = composed()
    for key, value in BEFORE.items():
        assert meaning_of_absence()[key] == value != today[key]


@pytest.mark.parametrize(
    ("saved", "today", "completed"),
    [
        pytest.param({}, {"steps_at_once": 1}, {"steps_at_once": "auto"}, id="its default, not a preset's"),
        pytest.param({}, {"init": "glorot_uniform"}, {"init": "torch"}, id="its older meaning"),
        pytest.param({"init": "glorot_uniform"}, {"init": "torch"}, {"init": "glorot_uniform"}, id="as saved"),
        pytest.param(
            {"network": {"width": 3}},
            {"network": {"width": 1, "depth": 2}},
            {"network": {"width": 3, "depth": 2}},
            id="of an option of a group, at any depth",
        ),
        pytest.param({"gone": 1}, {}, {"gone": 1}, id="what is no key any more"),
        pytest.param({"monitor": {"mode": "max"}}, {"monitor": {}}, {"monitor": {"mode": "max"}}, id="an axis"),
    ],
)
def test_the_config_of_an_older_sweep(saved: dict[str, Any], today: dict[str, Any], completed: object) -> None:
    assert with_meant_keys(saved, today) == completed
