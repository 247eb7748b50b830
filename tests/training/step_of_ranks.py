"""One step's loss and gradient, on one rank with the whole batch and on several with a share of it each.

Prints, for each option, the largest difference of the loss, of the gradient's mean over ranks and of the buffers,
relative to the largest entry.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, distributed, nn

from vae.likelihood.gaussian import Gaussian
from vae.likelihood.gaussian_optimal import GaussianOptimal
from vae.model import LatentModel
from vae.network.conv import ConvDecoder, ConvEncoder
from vae.objective.elbo import ELBO
from vae.objective.iwae import IWAE
from vae.objective.objective import Objective
from vae.objective.target_rate import TargetRate
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.prior.standard_normal import StandardNormal

SHAPE, IMAGES = (1, 8, 8), 12


def model(norm: str, likelihood: type[nn.Module]) -> LatentModel:
    torch.manual_seed(1)
    network = {
        "base_width": 4,
        "max_width": 8,
        "depth": 1,
        "norm": norm,
        "activation": "silu",
        "channels_last": False,
    }
    return LatentModel(
        SHAPE,
        3,
        partial(ConvEncoder, **network),
        partial(ConvDecoder, **network),
        DiagonalGaussian,
        StandardNormal,
        likelihood,
    )


OPTIONS: dict[str, tuple[str, type[nn.Module], Callable[[], Objective]]] = {
    "plain": ("group", Gaussian, lambda: ELBO()),
    "free bits": ("group", Gaussian, lambda: ELBO(free_bits=0.15)),
    "sampled free bits": ("group", Gaussian, lambda: ELBO(k=2, kl="monte_carlo", free_bits=0.2)),
    "optimal sigma": ("group", GaussianOptimal, lambda: ELBO(k=2)),
    "optimal sigma, iwae": ("group", GaussianOptimal, lambda: IWAE(k=3)),
    "target rate": ("group", Gaussian, lambda: ELBO(beta=TargetRate(0.5, speed=0.3))),
    "batch norm": ("batch", Gaussian, lambda: ELBO()),
    "dreg": ("group", Gaussian, lambda: IWAE(k=4, gradient="dreg")),
}


def step(name: str, rank: int, ranks: int) -> dict[str, Tensor]:
    """What a rank has after a step."""
    norm, likelihood, build = OPTIONS[name]
    vae, objective = model(norm, likelihood), build()
    torch.manual_seed(2)
    # Unlike in each half, as images that are sorted are.
    x = torch.rand(IMAGES, *SHAPE) * torch.linspace(0.1, 2, IMAGES)[:, None, None, None]
    noise = vae.noise(objective.draws, IMAGES)
    share = slice(rank * IMAGES // ranks, (rank + 1) * IMAGES // ranks)
    x, noise = x[share], noise[:, share]
    terms = vae.terms(x, vae.encode(x), noise, objective.scales_paths)
    loss = objective(terms, 3)
    loss.backward()
    if objective.adapts:
        objective.after_step(objective.rate(terms).detach())
    gradient = torch.cat([p.grad.flatten() for p in vae.parameters() if p.grad is not None])
    buffers = torch.cat([b.flatten().float() for m in (vae, objective) for b in m.buffers()])
    result = {"loss": loss.detach(), "gradient": gradient}
    if ranks > 1:
        for value in result.values():
            distributed.all_reduce(value)
            value /= ranks
    return result | {"buffers": buffers}


def main(ranks: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        # Before autograd has threads, with which it cannot be forked.
        rank = next((r for r in range(1, ranks) if os.fork() == 0), 0)
        alone = {name: step(name, 0, 1) for name in OPTIONS}
        store, wait = f"file://{Path(folder) / 'store'}", timedelta(seconds=60)
        distributed.init_process_group("gloo", store, rank=rank, world_size=ranks, timeout=wait)
        shared = {name: step(name, rank, ranks) for name in OPTIONS}
        distributed.destroy_process_group()
        if rank:
            os._exit(0)
        for _ in range(ranks - 1):
            os.wait()
    differences = {
        name: {
            what: float((value - alone[name][what]).abs().max() / alone[name][what].abs().max().clamp(min=1e-30))
            for what, value in shared[name].items()
        }
        for name in OPTIONS
    }
    print(json.dumps(differences))


if __name__ == "__main__":
    main(int(sys.argv[1]))
