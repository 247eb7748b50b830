"""What is not finite ends a run with the reason, or is left out, and never reaches a checkpoint."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning import Callback, Trainer, seed_everything
from omegaconf import DictConfig

from vae.checks import ConfigError
from vae.run.checkpoint import newest_undamaged, read_checkpoint
from vae.training.build import build_module, build_trainer
from vae.training.module import VAEModule

QUICK = [
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "network.hidden_sizes=[16]",
    "data.batch_size=256",
    "logger=csv",
    "callback.progress=null",
    "callback.pictures=null",
]
Composed = Callable[..., DictConfig]


class NaNData(Callback):
    """Plants NaN into one pixel of the images of some steps, counted from 0."""

    def __init__(self, *steps: int):
        self.steps = steps

    def on_train_batch_start(self, trainer: Trainer, module: object, batch: object, batch_idx: int) -> None:
        if trainer.global_step in self.steps:
            batch.image[3, 0, 4, 4] = torch.nan  # type: ignore[attr-defined]


class NaNWeight(Callback):
    """Plants NaN into a weight after some step."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer: Trainer, module: VAEModule, *args: object) -> None:
        if trainer.global_step == self.step:
            next(module.parameters()).data.view(-1)[0] = torch.nan


class NaNGradient(Callback):
    """Plants infinity into a gradient before some step, counted from 0, whose loss is finite."""

    def __init__(self, step: int):
        self.step = step

    def on_after_backward(self, trainer: Trainer, module: VAEModule) -> None:
        if trainer.global_step == self.step:
            parameter = next(module.parameters())
            assert parameter.grad is not None
            parameter.grad.view(-1)[0] = torch.inf


def train(composed: Composed, *overrides: str, plant: Callback | None = None) -> VAEModule:
    config = composed(*QUICK, *overrides)
    seed_everything(0, verbose=False)
    data = instantiate(config.data)
    trainer = build_trainer(config)
    if plant is not None:
        trainer.callbacks.insert(0, plant)
    module = build_module(config, data, trainer)
    trainer.fit(module, data)
    return module


def good_step(folder: Path) -> int:
    """The step of the last checkpoint, all of which is finite."""
    path = newest_undamaged(folder / "checkpoints")
    assert path is not None
    checkpoint = read_checkpoint(path)
    assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    return checkpoint["global_step"]


def test_nan_in_data_is_named_with_its_step_batch_and_term(composed: Composed, tmp_path: Path) -> None:
    line = (
        r"the training has diverged at step 7 \(epoch 2, batch 2\): the distortion of 1 of 256 images is nan;"
        r" σ 0\.\d+, gradient norm nan"
    )
    with pytest.raises(FloatingPointError, match=line):
        train(composed, plant=NaNData(6))
    assert good_step(tmp_path) == 4


@pytest.mark.parametrize("objective", ["elbo", "iwae"])
def test_nan_in_a_weight_is_seen_in_the_next_loss(objective: str, composed: Composed, tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"at step 6 \(epoch 2, batch 1\): the distortion of 256 of 256"):
        train(composed, f"objective={objective}", plant=NaNWeight(5))
    assert good_step(tmp_path) == 4


@pytest.mark.parametrize("validated_every", [1, 2])
def test_weights_that_are_not_finite_at_the_end_of_an_epoch_are_not_saved(
    validated_every: int, composed: Composed, tmp_path: Path
) -> None:
    with pytest.raises(FloatingPointError, match="the training has diverged"):
        train(
            composed,
            f"trainer.check_val_every_n_epoch={validated_every}",
            "callback.best.monitor=null",
            plant=NaNWeight(12 if validated_every == 2 else 8),
        )
    assert good_step(tmp_path) == (8 if validated_every == 2 else 4)


def test_a_vanishing_sigma_is_named(composed: Composed) -> None:
    with pytest.raises(
        FloatingPointError, match=r"at step 1 \(epoch 1, batch 0\): the distortion .* inf; σ 1e-30"
    ):
        train(composed, "likelihood.sigma=1e-30")


@pytest.mark.parametrize("plant", [NaNData(2, 6), NaNGradient(2)])
def test_skipped_steps_change_nothing(plant: Callback, composed: Composed, tmp_path: Path) -> None:
    module = train(
        composed, "on_nan=skip", "objective/beta=target_rate", "objective.beta.target_rate=3", plant=plant
    )
    assert all(value.isfinite().all() for value in module.state_dict().values())
    optimizer = module.optimizers()
    steps = {int(state["step"]) for state in optimizer.state.values()}  # type: ignore[union-attr]
    skipped = 1 if isinstance(plant, NaNGradient) else 2
    assert steps == {12 - skipped}
    assert good_step(tmp_path) == 12
    assert "nan" not in (tmp_path / "metrics.csv").read_text()


def test_too_many_skipped_steps_end_the_run(composed: Composed, tmp_path: Path) -> None:
    line = "at step 7 .*; on_nan=skip: 2 steps were left out before (on_nan_limit), and this is one more"
    with pytest.raises(FloatingPointError, match=re.escape(line).replace(r"\.\*", ".*")):
        train(composed, "on_nan=skip", "on_nan_limit=2", plant=NaNData(1, 5, 6))
    assert good_step(tmp_path) == 4


def test_another_policy_is_one_line(composed: Composed) -> None:
    config = composed(*QUICK, "on_nan=ignore")
    with pytest.raises(ConfigError, match="on_nan=ignore: must be one of stop, skip"):
        build_module(config, instantiate(config.data))
