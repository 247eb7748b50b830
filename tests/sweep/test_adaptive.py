"""Search spaces as typed, and a small study from its first launch to its second."""

from pathlib import Path

import pytest

pytest.importorskip("optuna")

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from commands import QUICK, run_train
from sweep.small_sweep import folders_of, summary_of
from vae.checks import ConfigError
from vae.sweep.directory import SweepDirectory
from vae.sweep.study import NAME, belongs, job_of, rounded, search_space, storage

NOP = "optuna.pruners.NopPruner"


def study_of(sweep: Path) -> optuna.Study:
    return optuna.load_study(study_name=NAME, storage=storage(SweepDirectory(sweep)))


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
    assert search_space(OverridesParser.create().parse_override(typed)) == expected


@pytest.mark.parametrize("typed", ["a=interval(2,1)", "a=tag(log,interval(0,1))", "a=range(3,3)"])
def test_impossible_search_spaces(typed: str) -> None:
    with pytest.raises(ConfigError, match=r"^a="):
        search_space(OverridesParser.create().parse_override(typed))


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
    # As a killed sweep leaves it: a trial without a result.
    folder = SweepDirectory(path)
    study = optuna.load_study(study_name=NAME, storage=storage(folder))
    left = study.ask({"latent_size": IntDistribution(2, 200)}).params["latent_size"]
    more = run_train(f"resume={path}", "hydra.sweeper.n_trials=4")
    assert more.returncode == 0, more.stdout + more.stderr
    assert first < folders_of(path)
    assert f"latent_size={left}" in folders_of(path)
    trials = optuna.load_study(study_name=NAME, storage=storage(folder)).trials
    assert [trial.state.name for trial in trials] == ["COMPLETE"] * 4
    summary = summary_of(path)
    for trial in trials:
        row = summary[f"latent_size={trial.params['latent_size']}"]
        assert trial.values == [float(row["val/rate"]), float(row["val/distortion"])]


@pytest.mark.slow
def test_bad_trials_are_ended_early_and_recorded_as_pruned(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    # A model that hardly learns stays below the threshold, whatever the order of the trials.
    pruner = ["_target_=optuna.pruners.ThresholdPruner", "n_warmup_steps=2"]
    command = [
        "-m",
        "hydra/sweeper=optuna",
        "optimizer.lr=tag(log,interval(1e-7,1e-2))",
        "logger=csv",
        *QUICK[1:-1],
    ]
    command += ["trainer.max_epochs=8", "callback.pictures=null", "+hydra.sweeper.pruner.lower=-150"]
    command += ["~hydra.sweeper.pruner.n_startup_trials", *(f"hydra.sweeper.pruner.{option}" for option in pruner)]
    done = run_train(*command, "hydra.sweeper.n_trials=5", "hydra.sweeper.seed=6", f"hydra.sweep.dir={path}")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = summary_of(path)
    trials = study_of(path).trials
    states = {job_of(trial).name: trial.state.name for trial in trials}
    assert set(states) == set(summary)
    assert set(states.values()) == {"COMPLETE", "PRUNED"}
    for trial in trials:
        job = job_of(trial).name
        row, epochs = summary[job], len(trial.intermediate_values)
        # The number in the study, in the folder's name, and in the config is the same.
        (rate,) = trial.params.values()
        assert job == f"optimizer.lr={rate:.12g}"
        assert (
            OmegaConf.load(path / job / ".hydra" / "config.yaml").optimizer.lr
            == float(row["optimizer.lr"])
            == rate
        )
        if states[job] == "PRUNED":
            assert (row["status"], row["epochs"]) == ("pruned", "")
            assert "val/elbo was" in row["reason"]
            assert 3 <= epochs < 8
            assert trial.intermediate_values[epochs - 1] < -150
        else:
            assert (row["status"], row["epochs"], epochs) == ("done", "8", 8)
    # Pruned trials are over: the same command does nothing.
    assert run_train(f"resume={path}").returncode == 0
    assert len(study_of(path).trials) == 5


@pytest.mark.slow
def test_a_failed_trial_is_tried_again_by_the_next_command(tmp_path: Path) -> None:
    path = tmp_path / "sweep"
    command = ["-m", "hydra/sweeper=optuna", "latent_size=int(interval(2,200))", *QUICK[1:-1], "logger=csv"]
    command += ["trainer.max_epochs=1", "callback=none", "hydra.sweeper.n_trials=2", f"hydra.sweep.dir={path}"]
    for _ in range(2):
        # Twice, lest a trial that failed twice be tried twice.
        failed = run_train(*command, "logger.csv.path=/proc/nowhere/metrics.csv")
        assert failed.returncode == 1
        assert "2 jobs, 2 failed" in failed.stdout
    done = run_train(*command)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 jobs, 2 done" in done.stdout
    states = [trial.state.name for trial in study_of(path).trials]
    assert states == ["FAIL"] * 4 + ["COMPLETE"] * 2


def test_numbers_are_rounded_within_their_bounds() -> None:
    assert rounded(0.123456, FloatDistribution(0.0, 1.0)) == 0.1235
    assert rounded(0.98765, FloatDistribution(0.0, 0.98765)) == 0.98765
    assert rounded(1234567, IntDistribution(1, 10**7)) == 1234567
    assert rounded("elbo", CategoricalDistribution(("elbo", "iwae"))) == "elbo"


@pytest.mark.parametrize(
    "params",
    [
        {"a": "{_target_:os.system}", "b": 0.3},
        {"a": "elbo", "b": 7.0},
        {"a": "elbo", "b": 0.3, "c": 1},
        {"a": "elbo"},
        {"+callback.x._target_": "os.system", "b": 0.3},
    ],
)
def test_a_trial_that_somebody_wrote_into_the_study_is_not_run(params: dict[str, object]) -> None:
    spaces = {"a": CategoricalDistribution(("elbo", "iwae")), "b": FloatDistribution(0.1, 1.0)}
    theirs = {
        "a": CategoricalDistribution((str(params.get("a")),)),
        "b": FloatDistribution(0, 9),
        "c": IntDistribution(0, 9),
        "+callback.x._target_": CategoricalDistribution(("os.system",)),
    }
    trial = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING, params=params, distributions={key: theirs[key] for key in params}
    )
    assert not belongs(trial, spaces)
    honest = optuna.trial.create_trial(
        state=optuna.trial.TrialState.RUNNING, params={"a": "iwae", "b": 0.3}, distributions=spaces
    )
    assert belongs(honest, spaces)


@pytest.mark.parametrize(
    "pruning",
    [
        {"monitor": "val/elbo", "pruner": {"_target_": "os.system"}},
        {"monitor": "val/elbo", "pruner": {"_target_": "optuna.storages.RDBStorage", "url": "sqlite:///x"}},
        {
            "monitor": "val/elbo",
            "pruner": {"_target_": "optuna.pruners.NopPruner", "x": {"_target_": "os.system"}},
        },
        {"monitor": "val/elbo", "pruner": "${oc.create:{a:1}}"},
        {"monitor": ["x"], "pruner": {"_target_": "optuna.pruners.NopPruner"}},
        {},
    ],
)
def test_somebodys_sweep_brings_none_but_optunas_pruners(pruning: dict[str, object], tmp_path: Path) -> None:
    from vae.sweep.pruning import Pruning

    directory = SweepDirectory(tmp_path)
    directory.write([], identity={}, pruning={"monitor": "val/elbo", "pruner": {"_target_": NOP}})
    assert isinstance(Pruning(str(tmp_path), "a=1").pruner, optuna.pruners.NopPruner)
    directory.write([], pruning=pruning)
    with pytest.raises(ConfigError, match=r"sweep\.json"):
        Pruning(str(tmp_path), "a=1")
