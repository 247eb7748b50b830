"""Search spaces as typed, and a small study from its first launch to its second."""

from pathlib import Path

import pytest

pytest.importorskip("optuna")

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from sweep.test_sweep import folders_of, summary_of
from test_train import QUICK, run_train
from vae.checks import ConfigError
from vae.sweep.adaptive import STUDY, distribution, storage
from vae.sweep.folder import SweepDirectory


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("a=interval(0.1,2)", FloatDistribution(0.1, 2.0)),
        ("a=tag(log,interval(0.1,2))", FloatDistribution(0.1, 2.0, log=True)),
        ("a=tag(log,int(interval(2,64)))", IntDistribution(2, 64, log=True)),
        # As everywhere in Hydra, a range does not contain its end.
        ("a=range(2,9,2)", IntDistribution(2, 8, step=2)),
        ("a=elbo,iwae", CategoricalDistribution(("elbo", "iwae"))),
        ("a=[64],[64,64]", CategoricalDistribution(("[64]", "[64,64]"))),
    ],
)
def test_search_spaces(typed: str, expected: object) -> None:
    assert distribution(OverridesParser.create().parse_override(typed)) == expected


@pytest.mark.parametrize("typed", ["a=interval(2,1)", "a=tag(log,interval(0,1))", "a=range(3,3)"])
def test_impossible_search_spaces(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"^a="):
        distribution(OverridesParser.create().parse_override(typed))


def test_a_study_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    command = [
        "-m",
        "hydra/sweeper=optuna",
        "latent_size=int(interval(2,200))",
        *QUICK[:-1],
        "trainer.max_epochs=1",
    ]
    command += [
        "logger=csv",
        "callback=none",
        "hydra.sweeper.objectives=[minimize val/rate,minimize val/distortion]",
    ]
    done = run_train(*command, "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={path}")
    assert done.returncode == 0, done.stdout + done.stderr
    first = folders_of(path)
    # As a killed sweep leaves it: a trial that was chosen and never told of.
    folder = SweepDirectory(path)
    study = optuna.load_study(study_name=STUDY, storage=storage(folder))
    left = study.ask({"latent_size": IntDistribution(2, 200)}).params["latent_size"]
    more = run_train(f"resume={path}", "hydra.sweeper.n_trials=4")
    assert more.returncode == 0, more.stdout + more.stderr
    assert first < folders_of(path)
    assert f"latent_size={left}" in folders_of(path)
    trials = optuna.load_study(study_name=STUDY, storage=storage(folder)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    summary = summary_of(path)
    for trial in trials:
        row = summary[f"latent_size={trial.params['latent_size']}"]
        assert trial.values == [float(row["val/rate"]), float(row["val/distortion"])]
