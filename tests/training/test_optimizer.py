"""Fused optimisers: on where they say so, the kernel that really runs, and the same numbers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig
from torch.profiler import ProfilerActivity, profile

from vae.checks import ConfigError
from vae.training.build import build_module, build_trainer

Composed = Callable[..., DictConfig]
QUICK = [
    "trainer.max_epochs=1",
    "trainer.accelerator=cpu",
    "network.hidden_sizes=[16]",
    "logger=none",
    "callback=none",
]


def fitted(config: DictConfig) -> Trainer:
    """After an epoch of 19 steps."""
    data = instantiate(config.data)
    torch.manual_seed(0)
    trainer = build_trainer(config)
    module = build_module(config, data, trainer)
    trainer.fit(module, data)
    return trainer


@pytest.mark.parametrize(
    ("overrides", "kind", "fused"),
    [
        ([], torch.optim.Adam, True),
        (["optimizer=adamw"], torch.optim.AdamW, True),
        (["optimizer.fused=false"], torch.optim.Adam, False),
        (["optimizer=adamw", "optimizer.fused=false"], torch.optim.AdamW, False),
        (["optimizer=sgd"], torch.optim.SGD, False),
    ],
)
def test_the_optimizer_that_trains_is_fused_if_it_is_to_be(
    overrides: list[str], kind: type, fused: bool, composed: Composed
) -> None:
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as profiler:
        trainer = fitted(composed(*QUICK, *overrides))
    (optimizer,) = trainer.optimizers
    assert type(optimizer) is kind
    assert [bool(group.get("fused")) for group in optimizer.param_groups] == [fused]
    kernels = {event.key: event.count for event in profiler.key_averages() if "_fused_" in event.key}
    assert kernels == ({f"aten::_fused_{kind.__name__.lower()}_": trainer.global_step} if fused else {})
    assert trainer.global_step == 19


def gradients(steps: int) -> Iterator[list[torch.Tensor]]:
    """The same ones at every call: of very different sizes, and zeros among them."""
    generator = torch.Generator().manual_seed(1)
    for step in range(steps):
        scale = 10.0 ** (step % 7 - 3)
        drawn = [torch.randn(shape, generator=generator) for shape in ((7, 5), (5,), ())]
        yield [scale * gradient * (gradient > -1) for gradient in drawn]


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_fused_steps_have_the_numbers_of_plain_ones(name: str, composed: Composed) -> None:
    found = []
    for fused in (True, False):
        config = composed(f"optimizer={name}", f"optimizer.fused={fused}", "optimizer.lr=0.1")
        parameters = [torch.ones(shape, requires_grad=True) for shape in ((7, 5), (5,), ())]
        optimizer = instantiate(config.optimizer, _convert_="all")(parameters)
        for step in gradients(50):
            for parameter, gradient in zip(parameters, step, strict=True):
                parameter.grad = gradient
            optimizer.step()
        found.append([parameter.detach() for parameter in parameters])
    for one, other in zip(*found, strict=True):
        assert (one - 1).abs().max() > 0.1
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_so_has_a_run(composed: Composed, tmp_path: Path) -> None:
    weights = []
    for fused in (True, False):
        config = composed(*QUICK, f"optimizer.fused={fused}")
        config.paths.run = str(tmp_path / f"{fused}")
        trainer = fitted(config)
        weights.append([parameter.detach() for parameter in trainer.model.parameters()])  # type: ignore[union-attr]
    for one, other in zip(*weights, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_neither_fused_nor_not(value: str, composed: Composed) -> None:
    config = composed(f"optimizer.fused={value}")
    with pytest.raises(ConfigError, match=rf"optimizer\.fused={value}: must be true or false"):
        build_module(config, instantiate(config.data))
