"""Whole trainings are repeated by a plain loop that shares with the product only its keys and its layers.

Written here by hand are the order of images, the noise, log p(x|z), the KL, bounds, free bits, the schedule and
the controller of β, and Adam.
"""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from lightning import seed_everything
from omegaconf import DictConfig
from torch import Tensor

from vae.model import LatentModel
from vae.random import draw_key, generator, set_draws
from vae.training.build import build_module, build_trainer

EPOCHS, RATE = 3, 2e-3
COMMON = [
    f"trainer.max_epochs={EPOCHS}",
    "trainer.accelerator=cpu",
    "network.hidden_sizes=[16]",
    "start_from_mean=false",
    "latent_size=3",
    "logger=none",
    "callback=none",
    f"optimizer.lr={RATE}",
    "trainer.gradient_clip_val=null",
]
LOG_2PI = math.log(2 * math.pi)


def encoded(model: LatentModel, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """μ, ln σ and z = μ + σε."""
    mean, log_scale = model.posterior.mean_and_log_scale(model.encoder(x)).chunk(2, -1)
    return mean, log_scale, mean + log_scale.exp() * noise


def log_normal(x: Tensor, mean: Tensor, sigma: Tensor | float) -> Tensor:
    """Σ over all but the first axes of ln N(x; mean, sigma²)."""
    sigma = torch.as_tensor(sigma)
    error = -0.5 * ((x - mean) / sigma).square() - sigma.log() - 0.5 * LOG_2PI
    return error.flatten(2).sum(-1)


def decoded(model: LatentModel, z: Tensor) -> Tensor:
    k, images, latents = z.shape
    return model.decoder(z.reshape(-1, latents)).reshape(k, images, *model.image_shape)


def rates(mean: Tensor, log_scale: Tensor) -> Tensor:
    """KL of each image and latent."""
    return 0.5 * (mean.square() + (2 * log_scale).exp() - 1) - log_scale


def annealed(model: LatentModel, x: Tensor, noise: Tensor, step: int, state: dict[str, float]) -> Tensor:
    """Two draws, β from 0.2 to 1 over 40 steps, σ = 0.3."""
    mean, log_scale, z = encoded(model, x, noise)
    beta = 0.2 + 0.8 * min(step / 40, 1)
    return (-log_normal(x, decoded(model, z), 0.3).mean(0) + beta * rates(mean, log_scale).sum(-1)).mean()


def free_bits(model: LatentModel, x: Tensor, noise: Tensor, step: int, state: dict[str, float]) -> Tensor:
    """Free bits of 0.3 a latent, and a learned σ."""
    mean, log_scale, z = encoded(model, x, noise)
    sigma = 0.01 + torch.nn.functional.softplus(model.likelihood.raw_sigma)
    free = torch.maximum(rates(mean, log_scale).mean(0), torch.tensor(0.3))
    return -log_normal(x, decoded(model, z), sigma).mean() + free.sum()


def miwae(model: LatentModel, x: Tensor, noise: Tensor, step: int, state: dict[str, float]) -> Tensor:
    """Two bounds of three draws each, a quarter of the ELBO mixed in, σ = 0.3."""
    _, log_scale, z = encoded(model, x, noise)
    log_q = (-0.5 * noise.square() - log_scale - 0.5 * LOG_2PI).sum(-1)
    log_p = (-0.5 * z.square() - 0.5 * LOG_2PI).sum(-1)
    log_w = log_normal(x, decoded(model, z), 0.3) + log_p - log_q
    largest = log_w.detach().amax(0)
    means = [(log_w[rows] - largest).exp().mean(0) for rows in (slice(0, 3), slice(3, 6))]
    bounds = largest + torch.stack(means).log().mean(0)
    return -(0.75 * bounds + 0.25 * log_w.mean(0)).mean()


def target(model: LatentModel, x: Tensor, noise: Tensor, step: int, state: dict[str, float]) -> Tensor:
    """A rate of 4 nats, to which β goes by 2 % a step at most; σ = 0.3."""
    mean, log_scale, z = encoded(model, x, noise)
    rate = rates(mean, log_scale).sum(-1).mean()
    beta = math.exp(state.get("log_beta", 0.0))
    state["log_beta"] = math.log(beta) + 0.02 * min(max((float(rate.detach()) - 4) / 4, -1), 1)
    return -log_normal(x, decoded(model, z), 0.3).mean() + beta * rate


SIGMA = ["likelihood.sigma=0.3"]
RUNS: dict[str, tuple[Callable[..., Tensor], int, list[str]]] = {
    "annealed": (
        annealed,
        2,
        [*SIGMA, "objective.k=2", "objective/beta=linear", "objective.beta.steps=40", "objective.beta.start=0.2"],
    ),
    "free bits": (free_bits, 1, ["likelihood=gaussian_learned", "objective.free_bits=0.3"]),
    "miwae": (
        miwae,
        6,
        [*SIGMA, "objective=iwae", "objective.k=3", "objective.outer=2", "objective.elbo_weight=0.25"],
    ),
    "target rate": (
        target,
        1,
        [*SIGMA, "objective/beta=target_rate", "objective.beta.target_rate=4", "objective.beta.speed=0.02"],
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_plain_loop_ends_with_the_same_weights(
    name: str, composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    loss_of, k, overrides = RUNS[name]
    config = composed(*COMMON, *overrides)
    weights = []
    for by_hand in (False, True):
        seed_everything(0, verbose=False)
        data = instantiate(config.data)
        trainer = build_trainer(config)
        module = build_module(config, data, trainer)
        if by_hand:
            data.setup()
            repeat(module.model, data, loss_of, k)
        else:
            trainer.fit(module, data)
            assert trainer.global_step == EPOCHS * 19
        weights.append(torch.cat([p.detach().flatten() for p in module.model.parameters()]))
    moved = (weights[0] - weights[1]).abs().max()
    assert moved < 2e-6, float(moved)


def repeat(model: LatentModel, data: object, loss_of: Callable[..., Tensor], k: int) -> None:
    """Train a model as the product would."""
    images, _ = data.images("train", 10_000)  # type: ignore[attr-defined]
    size, batch_size, weights = len(images), data.batch_size, list(model.parameters())  # type: ignore[attr-defined]
    averages = [(torch.zeros_like(p), torch.zeros_like(p)) for p in weights]
    state: dict[str, float] = {}
    step = 0
    for epoch in range(EPOCHS):
        order = torch.randperm(size, generator=generator("order", 0, epoch))
        for batch in range(size // batch_size):
            x = images[order[batch * batch_size : (batch + 1) * batch_size]]
            set_draws(draw_key("train", 0, epoch, batch, 0), x.device)
            noise = torch.randn(k, len(x), 3)
            gradients = torch.autograd.grad(loss_of(model, x, noise, step, state), weights)
            step += 1
            with torch.no_grad():
                for p, gradient, (first, second) in zip(weights, gradients, averages, strict=True):
                    first.mul_(0.9).add_(gradient, alpha=0.1)
                    second.mul_(0.999).add_(gradient.square(), alpha=0.001)
                    size_of = (second / (1 - 0.999**step)).sqrt() + 1e-8
                    p -= RATE * (first / (1 - 0.9**step)) / size_of
