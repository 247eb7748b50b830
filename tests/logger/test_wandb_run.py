"""A W&B run begins without W&B's launcher, unless that has been used."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from hydra.utils import instantiate
from lightning.pytorch.loggers import WandbLogger
from omegaconf import OmegaConf
from wandb.errors import CommError
from wandb.sdk.wandb_run import Run

from vae import progress
from vae.checks import ConfigError
from vae.logger.wandb_run import LAUNCH_INPUTS, WandbRun, _unless_launched


def test_the_launcher_is_not_imported_for_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("wandb.sdk.launch")]:
        monkeypatch.delitem(sys.modules, name)
    logger = WandbRun(project="vae", save_dir=str(tmp_path), mode="offline", settings={"silent": True})
    run = logger.experiment
    try:
        assert logger.experiment is run
        assert LAUNCH_INPUTS not in sys.modules
    finally:
        run.finish()


def test_settings_of_a_config_are_those_of_the_run(tmp_path: Path) -> None:
    settings = OmegaConf.create({"silent": True, "base_url": "http://127.0.0.1:9", "run_notes": "typed"})
    logger = instantiate(
        {
            "_target_": "vae.logger.wandb_run.WandbRun",
            "project": "vae",
            "save_dir": str(tmp_path),
            "mode": "offline",
            "settings": settings,
        }
    )
    run = logger.experiment
    try:
        assert (run.settings.base_url, run.notes) == ("http://127.0.0.1:9", "typed")
    finally:
        run.finish()


def test_inputs_given_to_the_launcher_are_applied(monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Run._detect_and_apply_job_inputs
    monkeypatch.setitem(sys.modules, LAUNCH_INPUTS, ModuleType("launcher"))
    with _unless_launched():
        assert Run._detect_and_apply_job_inputs is apply


def test_wandb_is_left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    apply = Run._detect_and_apply_job_inputs
    monkeypatch.delitem(sys.modules, LAUNCH_INPUTS, raising=False)
    with _unless_launched():
        assert Run._detect_and_apply_job_inputs is not apply
    assert Run._detect_and_apply_job_inputs is apply


def test_a_server_that_does_not_answer_is_waited_for_by_name_and_refused_in_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited_for = []

    def silent(logger: WandbLogger) -> None:
        waited_for.extend(each.name for each in progress._tasks)
        raise CommError("Run initialization has timed out after 90.0 sec.")

    monkeypatch.setattr(WandbLogger, "experiment", property(silent))
    settings = {"base_url": "https://wandb.example"}
    logger = WandbRun(project="vae", save_dir=str(tmp_path), mode="online", settings=settings)
    with pytest.raises(
        ConfigError, match=r"mode=online: must be offline where https://wandb\.example cannot be used"
    ):
        logger.experiment  # noqa: B018
    assert waited_for == ["waiting for W&B at https://wandb.example"]
