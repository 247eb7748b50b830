"""Which jobs a command asks for, and what their folders are called."""

import re
from collections.abc import Collection, Sequence

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from vae.checks import ConfigError
from vae.sweep.plan import LONGEST_NAME, Job, Plan, distinct, job_name, read_plan


def plan_of(*overrides: str, varied: Collection[str] = (), listed: Sequence[str] = ()) -> Plan:
    return read_plan(OverridesParser.create().parse_overrides(list(overrides)), varied, listed)


def test_a_grid_is_every_combination_and_the_rest_is_shared() -> None:
    plan = plan_of("latent_size=2,8", "data=mnist", "objective.k=1,5", "network.hidden_sizes=[32,32]")
    assert plan.constants == ["data=mnist", "network.hidden_sizes=[32,32]"]
    assert [job.overrides() for job in plan.jobs()] == [
        ["latent_size=2", "objective.k=1"],
        ["latent_size=2", "objective.k=5"],
        ["latent_size=8", "objective.k=1"],
        ["latent_size=8", "objective.k=5"],
    ]


def test_the_order_of_keys_and_values_changes_no_name() -> None:
    one = plan_of("latent_size=2,8", "objective.k=1,5").jobs()
    other = plan_of("objective.k=5,1", "latent_size=8,2").jobs()
    assert {job.name for job in one} == {job.name for job in other}
    assert one[0].name == "latent_size=2,objective.k=1"


def test_the_command_line_replaces_the_values_of_a_preset() -> None:
    assert plan_of("seed=range(5)", "seed=7,8", varied=["seed"]).axes == {"seed": ["7", "8"]}
    # A preset's key still varies when the command line leaves it one value.
    assert plan_of("seed=range(5)", "seed=7", varied=["seed"]).axes == {"seed": ["7"]}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"latent_size": "2"}, "latent_size=2"),
        ({"likelihood.sigma": "1e-3"}, "likelihood.sigma=0.001"),
        ({"likelihood.sigma": "1e-30"}, "likelihood.sigma=1e-30"),
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


@pytest.mark.parametrize(
    ("typed", "otherwise"),
    [
        ("1", "1.0"),
        ("0.1", "1e-1"),
        ("-2", "-2.00"),
        ("1000", "1_000"),
        ("true", "True"),
        ("null", "NULL"),
        ("[64,32]", "[64, 32.0]"),
        ("a b", "'a b'"),
        ("{a:1}", "{a: 1.0}"),
    ],
)
def test_a_value_typed_otherwise_is_the_same_job(typed: str, otherwise: str) -> None:
    assert job_name({"key": typed}) == job_name({"key": otherwise})


def test_whole_numbers_are_told_apart_however_large() -> None:
    # Beyond 2^53, where floats would not.
    assert job_name({"seed": str(2**60)}) != job_name({"seed": str(2**60 + 1)})


def test_listed_jobs_are_run_with_every_combination_of_the_keys_beside_them() -> None:
    plan = plan_of("seed=0,1", "data=mnist", listed=["likelihood.sigma=0.3", "prior=vamp latent_size=8"])
    assert plan.keys == ["likelihood.sigma", "prior", "latent_size", "seed"]
    assert plan.constants == ["data=mnist"]
    assert [job.name for job in plan.jobs()] == [
        "likelihood.sigma=0.3,seed=0",
        "likelihood.sigma=0.3,seed=1",
        "latent_size=8,prior=vamp,seed=0",
        "latent_size=8,prior=vamp,seed=1",
    ]
    assert [job.name for job in plan_of("data=mnist", listed=["seed=1", "seed=2"]).jobs()] == ["seed=1", "seed=2"]


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        (["seed=1,2"], "sweep.jobs: seed=1,2: a job has one value for each key"),
        ([""], "sweep.jobs: : a job has one value for each key"),
        (["latent_size=2", "latent_size=2.0"], "latent_size=2.0 x=1: is the same job as latent_size=2 x=1"),
        (["x=3"], "x: varies in sweep.jobs and beside them"),
    ],
)
def test_impossible_lists(listed: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of("x=1,2", listed=listed).jobs()


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
        (["compile=true,True"], "compile=true,True: True and True are the same job"),
        (["latent_size="], "latent_size=: there is no value"),
        (["latent_size=range(3,3)"], r"latent_size=range\(3,3\): there is no value"),
        (["latent_size=interval(1,3)"], r"latent_size=interval\(1,3\): a grid needs .* hydra/sweeper=optuna"),
    ],
)
def test_impossible_grids(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_of(*overrides)


def test_two_jobs_never_share_a_folder_even_where_case_is_ignored() -> None:
    with pytest.raises(ConfigError, match="x=A: is the same job as x=a"):
        distinct([Job("x=a", {"x": "a"}), Job("x=A", {"x": "A"})])
