"""The plain loops that the framework is compared with. They take batches from a float tensor in memory."""

from collections.abc import Callable, Iterable, Sequence
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.workload import Workload, composed
from vae.model import LatentModel
from vae.training.build import build_model
from vae.training.execution import Execution, terms_of

Epoch = Callable[[], int]
"""A function that trains for an epoch and returns its number of steps."""


class PlainVAE(nn.Module):
    """The 784-400-20 model as a beginner's script would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden, self.latent = nn.Linear(784, 400), nn.Linear(400, 40)
        self.back, self.output = nn.Linear(20, 400), nn.Linear(400, 784)

    def loss(self, x: Tensor) -> Tensor:
        """Return −ELBO with the closed-form KL and one draw."""
        mean, log_variance = self.latent(F.relu(self.hidden(x))).chunk(2, 1)
        z = mean + torch.exp(0.5 * log_variance) * torch.randn_like(mean)
        logits = self.output(F.relu(self.back(z)))
        cross_entropy = F.binary_cross_entropy_with_logits(logits, x, reduction="sum")
        kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
        return (cross_entropy + kl) / len(x)


def trained(loss: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, batches: Iterable[Tensor]) -> int:
    """Train on the batches in a plain loop, and return the number of steps."""
    steps = 0
    for x in batches:
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
        steps += 1
    return steps


def training_images(workload: Workload, folder: Path) -> Tensor:
    """Return the images that the framework trains on, as floats in memory."""
    data = instantiate(composed(workload, folder, "data.binarize=none").data)
    data.prepare_data()
    data.setup()
    return data.images("train", len(data.subsets["train"]))[0]


def framework_loss(config: DictConfig, shape: Sequence[int]) -> tuple[LatentModel, Callable[[Tensor], Tensor]]:
    """Return the framework's own model, and its objective as a function of x."""
    model, objective = build_model(config, (shape[0], shape[1], shape[2])), instantiate(config.objective)
    terms, binarize = (
        terms_of(model, objective, Execution(recompute_decoder=config.recompute_decoder)),
        config.data.binarize == "dynamic",
    )

    def loss(x: Tensor) -> Tensor:
        x = torch.bernoulli(x) if binarize else x
        return objective(terms(x, model.encode(x), model.noise(objective.draws, len(x))), 0)

    return model, loss


def bare(workload: Workload, folder: Path) -> Epoch:
    """Return an epoch of a plain loop over a float tensor in memory.

    The images are shuffled, and the incomplete batch is left out (as in the framework).
    """
    config = composed(workload, folder)
    x, size = training_images(workload, folder), config.data.batch_size
    model: nn.Module
    if "network.hidden_sizes=[400]" in workload.overrides:
        x, model = x.flatten(1), (plain := PlainVAE())
        loss: Callable[[Tensor], Tensor] = plain.loss
    else:
        model, loss = framework_loss(config, x.shape[1:])
    optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

    def epoch() -> int:
        order = torch.randperm(len(x))[: len(x) // size * size]
        return trained(loss, optimizer, (x[rows] for rows in order.split(size)))

    return epoch


class LossModule(nn.Module):
    """A module whose forward is a loss, because DistributedDataParallel wraps a forward."""

    def __init__(self, model: nn.Module, loss: Callable[[Tensor], Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, x: Tensor) -> Tensor:
        return self.loss(x)


def rank_epoch(rank: int, ranks: int, workload: Workload, folder: Path, x: Tensor) -> Epoch:
    """Return this rank's share of an epoch of the bare loop in several processes."""
    torch.distributed.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=ranks)
    config = composed(workload, folder)
    size = config.data.batch_size
    module = DistributedDataParallel(LossModule(*framework_loss(config, x.shape[1:])))
    optimizer = torch.optim.Adam(module.parameters(), 1e-3, fused=True)
    order_of = torch.Generator().manual_seed(0)

    def epoch() -> int:
        order = torch.randperm(len(x), generator=order_of)[: len(x) // size * size]
        return trained(module, optimizer, (x[rows[rank::ranks]] for rows in order.split(size)))

    return epoch


def further_rank(*arguments: Any) -> None:
    """Train together with the first rank for as long as that rank lives."""
    torch.set_num_threads(1)
    epoch = rank_epoch(*arguments)
    while True:
        epoch()


def bare_ddp(workload: Workload, folder: Path) -> Epoch:
    """Return an epoch of the bare loop in several processes.

    The other processes wait in their first step until this one begins.
    """
    x = training_images(workload, folder)
    for rank in range(1, workload.ranks):
        arguments = (rank, workload.ranks, workload, folder, x)
        get_context("spawn").Process(target=further_rank, args=arguments, daemon=True).start()
    return rank_epoch(0, workload.ranks, workload, folder, x)
