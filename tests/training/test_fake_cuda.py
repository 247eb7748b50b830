"""What a GPU would refuse, found without one: fake tensors know their device, and hold no values.

A tensor of the CPU that is mixed in raises, and so does a step that would wait for the device to read a value.
"""

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from unittest.mock import patch

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from vae.data import Batch
from vae.paths import CONF
from vae.training.build import build_module
from vae.training.module import VAEModule

Composed = Callable[..., DictConfig]
GROUPS = ("likelihood", "posterior", "prior", "network", "objective", "objective/beta", "corruption")
CHOICES = [[f"{group}={path.stem}"] for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
CHOICES += [["objective=iwae", f"objective.{more}"] for more in ("gradient=dreg", "gradient=stl", "chunk=1")]
CHOICES += [["recompute_decoder=true"], ["objective.free_bits=0.1"]]
# Codes need a posterior, a prior and often a network that go together: tests/training/test_discrete.py has them.
OF_CODES = {
    "categorical",
    "exact",
    "finite_scalar",
    "independent",
    "vector_quantized",
    "autoregressive",
    "uniform",
}
CHOICES = [
    choice
    for choice in CHOICES
    if choice[0] != "network=spatial"
    and not (choice[0].startswith(("posterior=", "prior=")) and choice[0].partition("=")[2] in OF_CODES)
]
NEEDS = {
    "prior=flow": ["objective.kl=monte_carlo"],
    "prior=gaussian_mixture": ["objective.kl=monte_carlo"],
    "prior=vamp": ["objective.kl=monte_carlo"],
    "posterior=flow": ["objective.kl=monte_carlo"],
    "posterior=delta": ["objective=reconstruction"],
    "posterior=spatial_gaussian": ["network=spatial", "network.grid=[4,4]", "latent_size=16"],
    "likelihood=bernoulli": ["data.binarize=threshold"],
    "objective=reconstruction": ["posterior=delta"],
}


def on_fake_gpu(composed: Composed, overrides: Sequence[str], mode: FakeTensorMode) -> VAEModule:
    """A module whose weights, buffers and metrics are on a GPU, as `Module.to` would have it."""
    chosen = [*overrides, *NEEDS.get(overrides[0], [])]
    small = [] if any(override.startswith("network=") for override in chosen) else ["network.hidden_sizes=[8]"]
    config = composed(*small, *chosen, "logger=none")
    module = build_module(config, instantiate(config.data))
    with mode:
        for part in module.modules():
            for name, p in list(part.named_parameters(recurse=False)):
                setattr(part, name, nn.Parameter(mode.from_tensor(p.detach()).to("cuda"), p.requires_grad))
            for name, buffer in list(part.named_buffers(recurse=False)):
                setattr(part, name, mode.from_tensor(buffer).to("cuda"))
    return module


def batch(shape: Sequence[int]) -> Batch:
    return Batch(torch.rand(4, *shape, device="cuda"), torch.zeros(4, dtype=torch.int64, device="cuda"), 0, True)


@pytest.mark.parametrize("overrides", CHOICES, ids=" ".join)
def test_no_tensor_of_the_cpu_is_mixed_in_and_no_step_waits(overrides: list[str], composed: Composed) -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    module = on_fake_gpu(composed, overrides, mode)
    with mode, patch.object(VAEModule, "trainer", SimpleNamespace(global_step=0)):
        loss = module.training_step(batch(module.model.image_shape), 0)
    assert loss.device.type == "cuda"


@pytest.mark.parametrize("group", ["val", "test"])
def test_metrics_work_on_the_device(group: str, composed: Composed) -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    module = on_fake_gpu(composed, ["metric=full", "~metric.test.generation"], mode)
    metrics = module.val_metrics if group == "val" else module.test_metrics
    with mode, torch.no_grad(), patch.object(VAEModule, "trainer", SimpleNamespace(global_step=0)):
        for name, metric in metrics.items():
            metric.to("cuda")
            module._evaluate(batch(module.model.image_shape), {name: metric})


def test_a_tensor_of_the_cpu_and_a_value_that_is_read_are_found() -> None:
    with FakeTensorMode(allow_non_fake_inputs=True):
        values = torch.zeros(3, device="cuda")
        with pytest.raises(RuntimeError, match="device"):
            values + torch.zeros(3)
        with pytest.raises(DataDependentOutputException):
            float(values.sum())
