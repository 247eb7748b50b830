"""Each private part of another library that we touch still is what we take it for."""

import pytest


def test_optuna_trials_are_taken_up_by_another_process() -> None:
    optuna = pytest.importorskip("optuna")
    from vae.internals import optuna_trial

    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(lower=0.0))
    number = study.ask().number
    trial = optuna_trial(study, study.trials[number])
    trial.report(-1.0, 0)
    assert trial.should_prune()
    assert study.trials[number].intermediate_values == {0: -1.0}
