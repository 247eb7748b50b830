"""Each private part of another library that we touch still is what we take it for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import ModelCheckpoint
from omegaconf import DictConfig

from commands import call_command
from vae.internals import (
    before_the_folder_is_made,
    checkpoints_between_epochs,
    copy_all,
    in_forward_mode,
    steps_in_checkpoint,
)
from vae.training.build import build_module, build_trainer


def test_optuna_trials_are_taken_up_by_another_process() -> None:
    optuna = pytest.importorskip("optuna")
    from vae.internals import optuna_trial

    study = optuna.create_study(pruner=optuna.pruners.ThresholdPruner(lower=0.0))
    number = study.ask().number
    trial = optuna_trial(study, study.trials[number])
    trial.report(-1.0, 0)
    assert trial.should_prune()
    assert study.trials[number].intermediate_values == {0: -1.0}


def test_hydra_gives_out_a_config_before_it_makes_a_folder(tmp_path: Path) -> None:
    seen = []

    def check(config: DictConfig) -> None:
        seen.append((config.paths.run, list(tmp_path.iterdir())))

    with before_the_folder_is_made(check):
        call_command("vae.train", f"hydra.run.dir={tmp_path / 'run'}", "data.val_size=5000", folder=tmp_path)
    assert (str(tmp_path / "run"), []) in seen


@pytest.mark.parametrize("steps_at_once", [1, 4])
def test_lightning_counts_steps_where_we_count_ours(
    steps_at_once: int, composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    quick = ["trainer.max_epochs=2", "trainer.accelerator=cpu", "network.hidden_sizes=[8]", "logger=none"]
    config = composed(*quick, "callback.pictures=null", "callback.progress=null", f"steps_at_once={steps_at_once}")
    data, trainer = instantiate(config.data), build_trainer(config)
    trainer.fit(build_module(config, data, trainer), data)
    assert trainer.global_step == 2 * 19
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2 * 19
    own, lightnings = steps_in_checkpoint(checkpoint)
    assert lightnings == {"ready": 2 * 19, "completed": 2 * 19}
    assert own == (lightnings if steps_at_once > 1 else {"ready": 0, "completed": 0})


def test_lightnings_checkpoints_within_an_epoch_are_known() -> None:
    assert not checkpoints_between_epochs(ModelCheckpoint())
    assert checkpoints_between_epochs(ModelCheckpoint(every_n_train_steps=3))


def test_torch_copies_many_tensors_at_once() -> None:
    place = torch.zeros(2, 3)
    copy_all([place[0], place[1]], [torch.ones(3), torch.full((3,), 2)])
    assert place.tolist() == [[1, 1, 1], [2, 2, 2]]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch, of its rules for forward mode
def test_torch_says_where_derivatives_are_worked_out_forwards() -> None:
    seen = []

    def square(x: torch.Tensor) -> torch.Tensor:
        seen.append(in_forward_mode())
        return x.square()

    one = torch.ones(())
    square(one)
    torch.func.grad(square)(one)
    torch.func.hessian(square)(one)
    torch.func.jvp(lambda x: torch.func.jvp(square, (x,), (one,))[1], (one,), (one,))
    square(one)
    assert seen == [False, False, True, True, False]
