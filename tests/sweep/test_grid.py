"""Which jobs a command asks for, and what their folders are called."""

import re

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from vae.checks import ConfigError
from vae.sweep.grid import LONGEST_NAME, Grid, Job, job_name, parse_grid, unique


def grid_of(*overrides: str, presets: int = 0) -> Grid:
    return parse_grid(OverridesParser.create().parse_overrides(list(overrides)), presets)


def test_a_grid_is_every_combination_and_the_rest_is_shared() -> None:
    grid = grid_of("latent_size=2,8", "data=mnist", "objective.k=1,5", "network.hidden_sizes=[32,32]")
    assert grid.constants == ["data=mnist", "network.hidden_sizes=[32,32]"]
    assert [job.overrides() for job in grid.jobs()] == [
        ["latent_size=2", "objective.k=1"],
        ["latent_size=2", "objective.k=5"],
        ["latent_size=8", "objective.k=1"],
        ["latent_size=8", "objective.k=5"],
    ]


def test_the_order_of_keys_and_values_changes_no_name() -> None:
    one = grid_of("latent_size=2,8", "objective.k=1,5").jobs()
    other = grid_of("objective.k=5,1", "latent_size=8,2").jobs()
    assert {job.name for job in one} == {job.name for job in other}
    assert one[0].name == "latent_size=2,objective.k=1"


def test_the_command_line_replaces_the_values_of_a_preset() -> None:
    assert grid_of("seed=range(5)", "seed=7,8", presets=1).axes == {"seed": ["7", "8"]}
    # A preset's key still varies when the command line leaves it one value.
    assert grid_of("seed=range(5)", "seed=7", presets=1).axes == {"seed": ["7"]}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"latent_size": "2"}, "latent_size=2"),
        ({"likelihood.sigma": "1e-3"}, "likelihood.sigma=1e-3"),
        ({"x": "-0.5"}, "x=-0.5"),
        ({"network.hidden_sizes": "[64,64]"}, "network.hidden_sizes=64-64"),
        ({"objective/beta": "linear"}, "objective.beta=linear"),
        ({"+trainer.limit_train_batches": "3"}, "trainer.limit_train_batches=3"),
        ({"b": "1", "a": "2"}, "a=2,b=1"),
        ({}, "job"),
    ],
)
def test_names_are_readable(values: dict[str, str], name: str) -> None:
    assert job_name(values) == name


def test_names_are_safe_and_distinct_for_any_value() -> None:
    nasty = ["a/b", "a b", "a:b", "a'b", "a\\b", "../x", "ä", "a" * 300, "a" * 301, "{a:1}", "$HOME", "*", "?"]
    names = [job_name({"key": value}) for value in nasty]
    assert len(set(names)) == len(nasty)
    for name in names:
        assert re.fullmatch(r"[A-Za-z0-9=,._+-]+", name)
        assert len(name.encode()) <= LONGEST_NAME + 9


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["latent_size=2,8,2"], "latent_size=2,8,2: 2 and 2 are the same job"),
        (["likelihood.sigma=1,1.0"], "likelihood.sigma=1,1.0: 1.0 and 1 are the same job"),
        (["latent_size="], "latent_size=: there is no value"),
        (["latent_size=range(3,3)"], r"latent_size=range\(3,3\): there is no value"),
        (["latent_size=interval(1,3)"], r"latent_size=interval\(1,3\): a grid needs .* hydra/sweeper=optuna"),
    ],
)
def test_impossible_grids(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        grid_of(*overrides)


def test_two_jobs_never_share_a_folder_even_where_case_is_ignored() -> None:
    with pytest.raises(ConfigError, match="x=A: is the same job as x=a"):
        unique([Job("x=a", {"x": "a"}), Job("x=A", {"x": "A"})])
