"""What a training step costs, by counts that no clock and no other load can change."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig, OmegaConf
from torch.profiler import ProfilerActivity, profile

from vae.data.image_data import ImageSubset
from vae.logger.metrics_csv import MetricsCSV
from vae.training.build import build_module, build_trainer

Composed = Callable[..., DictConfig]
QUICK = [
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "latent_size=2",
    "logger=csv",
    "callback.pictures=null",
]
# Reads a number off the device, for which a GPU would have to be waited for.
SYNCHRONISING = {"aten::item", "aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero"}


class ProfileEpoch(Callback):
    """Counts the operations between the second and the last step of an epoch, without those of logging."""

    def __init__(self) -> None:
        self.profiler = profile(activities=[ProfilerActivity.CPU], acc_events=True)
        self.steps = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.steps = trainer.global_step
            self.profiler.start()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            self.profiler.stop()
            self.steps = trainer.global_step - self.steps

    def per_step(self) -> dict[str, float]:
        counts = Counter({event.key: event.count for event in self.profiler.key_averages()})
        return {name: count / self.steps for name, count in counts.items() if name.startswith("aten::")}


def fitted(composed: Composed, *overrides: str, callback: Callback | None = None) -> Trainer:
    config = composed(*QUICK, *overrides)
    OmegaConf.resolve(config)
    data = instantiate(config.data)
    trainer = build_trainer(config)
    module = build_module(config, data, trainer)
    if callback is not None:
        trainer.callbacks.append(callback)  # type: ignore[attr-defined]
    trainer.fit(module, data)
    return trainer


@pytest.mark.parametrize(
    ("overrides", "most"),
    [
        (["likelihood=bernoulli"], 520),
        (["likelihood=gaussian"], 535),
        (["likelihood=bernoulli", "objective=iwae", "objective.k=50"], 630),
    ],
)
def test_operations_of_a_step(overrides: list[str], most: int, composed: Composed) -> None:
    """The limit is a little above what it was when set; operations for each draw or image would exceed it."""
    watch = ProfileEpoch()
    fitted(composed, *overrides, "network.hidden_sizes=[16,16]", callback=watch)
    counts = watch.per_step()
    assert watch.steps == 19
    assert 100 < sum(counts.values()) < most


def test_no_step_waits_for_the_device(composed: Composed) -> None:
    """Numbers are read where the means are logged, once in this epoch of 19 steps.

    With SGD, as the fused Adam of torch's CPU, unlike that of a GPU, reads its count of steps from each tensor.
    """
    watch = ProfileEpoch()
    fitted(composed, "network.hidden_sizes=[16]", "optimizer=sgd", callback=watch)
    reads = sum(watch.per_step().get(name, 0) for name in SYNCHRONISING) * watch.steps
    assert reads <= 12, {name: watch.per_step().get(name, 0) * watch.steps for name in SYNCHRONISING}


def test_images_are_fetched_by_the_group_and_never_one_by_one(
    composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: Counter[str] = Counter()

    def counted(name: str) -> None:
        method = getattr(ImageSubset, name)

        def call(self: ImageSubset, *arguments: Any) -> Any:
            fetched[name] += 1
            return method(self, *arguments)

        monkeypatch.setattr(ImageSubset, name, call)

    counted("__getitem__")
    counted("__getitems__")
    fitted(composed, "network.hidden_sizes=[16]")
    # Two epochs of 19 steps, 16 at once and then 3, and one batch of validation after each.
    assert fetched == {"__getitems__": 2 * (2 + 1)}


def test_loggers_are_called_by_the_interval_and_not_by_the_step(
    composed: Composed, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    log = MetricsCSV.log_metrics

    def noted(self: MetricsCSV, metrics: dict[str, float], step: int | None = None) -> None:
        if any(name.startswith("train/") for name in metrics):
            calls.append(step or 0)
        log(self, metrics, step)

    monkeypatch.setattr(MetricsCSV, "log_metrics", noted)
    fitted(composed, "network.hidden_sizes=[16]", "trainer.log_every_n_steps=10")
    # The means at every tenth step of an epoch and at its end; the gradient's norm at every tenth step of the run.
    assert sorted(calls) == [10, 10, 19, 20, 29, 30, 38]
