"""Steps taken several at once are the steps that would have been taken one by one."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer, seed_everything
from omegaconf import DictConfig, OmegaConf
from torch.optim import Optimizer

from vae.checks import ConfigError
from vae.training.build import build_module, build_trainer
from vae.training.module import VAEModule
from vae.training.steps_at_once import MOST_STEPS, StepsAtOnce, steps_at_once

Composed = Callable[..., DictConfig]

QUICK = [
    "trainer.max_epochs=3",
    "trainer.accelerator=cpu",
    "network.hidden_sizes=[16]",
    "latent_size=2",
    "logger=csv",
    "callback.pictures=null",
    "callback.progress=null",
]
# All that a step may depend on beside its images: noise, and the schedule of the learning rate.
VARIED = ["scheduler=cosine", "data.binarize=dynamic", "likelihood=bernoulli", "trainer.log_every_n_steps=4"]


def fitted(
    composed: Composed,
    folder: Path,
    *overrides: str,
    resume: Path | None = None,
    callback: Callback | None = None,
) -> VAEModule:
    config = composed(*QUICK, *overrides)
    config.paths.run = str(folder)
    OmegaConf.resolve(config)
    seed_everything(0, verbose=False)
    data = instantiate(config.data)
    trainer = build_trainer(config)
    trainer.callbacks.extend([callback] if callback else [])  # type: ignore[attr-defined]
    module = build_module(config, data, trainer)
    trainer.fit(module, data, ckpt_path=resume, weights_only=True)
    return module


def same(one: VAEModule, other: VAEModule) -> bool:
    """Whether all weights, buffers and the optimisers' states are equal to the last bit."""
    states = one.state_dict(), other.state_dict()
    moments = [list(m.trainer.optimizers[0].state.values()) for m in (one, other)]
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0]) and all(
        torch.equal(a[key], b[key]) for a, b in zip(*moments, strict=True) for key in a
    )


@pytest.mark.parametrize("objective", [["objective/beta=target_rate", "objective.beta.target_rate=3"], []])
def test_the_numbers_do_not_depend_on_how_many_steps_are_taken_at_once(
    objective: list[str], composed: Composed, tmp_path: Path
) -> None:
    modules = {}
    for steps in (1, 3, "auto"):
        modules[steps] = fitted(composed, tmp_path / str(steps), *VARIED, *objective, f"steps_at_once={steps}")
    assert [m.automatic_optimization for m in modules.values()] == [True, False, False]
    assert {m.trainer.global_step for m in modules.values()} == {3 * 19}
    for steps in (3, "auto"):
        assert same(modules[1], modules[steps])
        assert modules[1].trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-9)
        rows = [(tmp_path / name / "metrics.csv").read_text() for name in ("1", str(steps))]
        assert rows[0] == rows[1]
        assert rows[0].count("\n") > 3 * 3


def test_max_steps_is_kept_within_a_group(composed: Composed, tmp_path: Path) -> None:
    by_one, by_four = (
        fitted(composed, tmp_path / str(n), "trainer.max_steps=25", f"steps_at_once={n}") for n in (1, 4)
    )
    assert by_four.trainer.global_step == 25
    assert same(by_one, by_four)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
@pytest.mark.parametrize(("first", "then"), [(1, 4), (4, 1)])
def test_a_run_goes_on_with_another_number(first: int, then: int, composed: Composed, tmp_path: Path) -> None:
    whole = fitted(composed, tmp_path / "whole", *VARIED, "scheduler=step")
    short = tmp_path / "part"
    fitted(composed, short, *VARIED, "scheduler=step", f"steps_at_once={first}", "trainer.max_epochs=1")
    last = short / "checkpoints" / "last.ckpt"
    resumed = fitted(composed, short, *VARIED, "scheduler=step", f"steps_at_once={then}", resume=last)
    assert resumed.trainer.global_step == whole.trainer.global_step == 3 * 19
    assert same(resumed, whole)
    assert (short / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()


class Listener(Callback):
    def on_train_batch_end(self, *arguments: object) -> None:
        pass


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        (["trainer.gradient_clip_val=1"], "trainer.gradient_clip_val=1"),
        (["+trainer.accumulate_grad_batches=2"], "trainer.accumulate_grad_batches=2"),
        (["+trainer.limit_train_batches=1"], "trainer.limit_train_batches=1"),
        (["+trainer.val_check_interval=3"], "trainer.val_check_interval=3"),
        (["trainer.profiler=simple"], "a trainer.profiler"),
        (["callback=ema"], "the callback EMA"),
        (["+callback.best.every_n_train_steps=5"], "the callback ModelCheckpoint"),
        (["trainer.devices=2", "trainer.strategy=ddp"], "several devices"),
    ],
)
def test_steps_are_taken_one_by_one_where_something_runs_between_them(
    overrides: list[str], named: str, composed: Composed
) -> None:
    trainer = build_trainer(composed(*QUICK, *overrides))
    assert steps_at_once(trainer, "auto", pixels=64) == 1
    with pytest.raises(ConfigError, match=f"steps_at_once=3: must be 1 or auto with {named}"):
        steps_at_once(trainer, 3, pixels=64)


def test_a_callback_of_ones_own_is_asked_after_each_step(composed: Composed) -> None:
    trainer = build_trainer(composed(*QUICK))
    assert steps_at_once(trainer, "auto", pixels=64) == MOST_STEPS["cpu"]
    trainer.callbacks.append(Listener())  # type: ignore[attr-defined]
    assert steps_at_once(trainer, "auto", pixels=64) == 1


def test_large_batches_are_taken_one_by_one(composed: Composed) -> None:
    trainer = build_trainer(composed(*QUICK))
    assert [steps_at_once(trainer, "auto", pixels=128 * n) for n in (784, 4 * 784, 3 * 64 * 64, 10**6)] == [
        16,
        5,
        1,
        1,
    ]


@pytest.mark.parametrize("asked", [0, "many", -1])
def test_no_number_of_steps(asked: int | str, composed: Composed) -> None:
    with pytest.raises(ConfigError, match=f"steps_at_once={asked}"):
        steps_at_once(build_trainer(composed(*QUICK)), asked, pixels=64)


class Counter(Callback):
    """A user's own, which listens before each step."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        self.steps.append(trainer.global_step)
        pl_module.log("step", float(trainer.global_step))


def test_a_callback_of_ones_own_may_listen_and_log_before_each_step(composed: Composed, tmp_path: Path) -> None:
    plain, counter = fitted(composed, tmp_path / "plain"), Counter()
    listened = fitted(composed, tmp_path / "listened", callback=counter)
    assert isinstance(plain, StepsAtOnce)
    assert not isinstance(listened, StepsAtOnce)
    assert same(plain, listened)
    assert counter.steps == list(range(3 * 19))
    assert listened.trainer.callback_metrics["step"] == 3 * 19 - 1


def test_lightnings_hooks_are_not_looked_for_within_a_group(
    composed: Composed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked_for(*arguments: object) -> None:
        raise AssertionError

    monkeypatch.setattr("lightning.pytorch.core.optimizer.LightningOptimizer.step", looked_for)
    assert fitted(composed, tmp_path).trainer.global_step == 3 * 19
