"""Gradients `stl` and `dreg` have the mean of the standard one, for every posterior and prior."""

import pytest
import torch
from torch import Tensor

from drawn import loss_of
from training.test_combination import CODED, OVER_CODES, build, names
from vae.model import LatentModel
from vae.objective.iwae import IWAE

IMAGES, DRAWS = 2, 40


def gradients(objective: IWAE, model: LatentModel) -> Tensor:
    """Of the loss by all weights but the decoder's, of `DRAWS` batches, each of 50 copies of the images."""
    torch.manual_seed(5)
    x = torch.rand(IMAGES, 1, 4, 4).round().repeat(50, 1, 1, 1)
    weights = [*model.encoder.parameters(), *model.posterior.parameters(), *model.prior.parameters()]
    found = []
    for _ in range(DRAWS):
        gradient = torch.autograd.grad(loss_of(objective, model, x), weights)
        found.append(torch.cat([part.flatten() for part in gradient]))
    return torch.stack(found)


@pytest.mark.parametrize(
    ("posterior", "prior"),
    [
        (posterior, prior)
        for posterior in names("posterior")
        for prior in names("prior")
        if posterior not in ("delta", "independent") and not {posterior, prior} & {*CODED, *OVER_CODES}
    ],
)
def test_gradients_have_the_mean_of_the_standard_one(posterior: str, prior: str) -> None:
    model = build(posterior, prior, "bernoulli")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    for style, k in (("stl", 1), ("dreg", 3)):
        standard, other = gradients(IWAE(k), model), gradients(IWAE(k, style), model)
        stderr = ((standard.var(0) + other.var(0)) / DRAWS).sqrt()
        size = standard.mean(0).abs().max()
        assert ((standard.mean(0) - other.mean(0)).abs() <= 5.5 * stderr + 1e-4 * size).all(), style


def test_the_encoder_may_be_frozen() -> None:
    model, x = build("diagonal_gaussian", "standard_normal", "bernoulli"), torch.rand(3, 1, 4, 4)
    model.encoder.requires_grad_(False)
    model.posterior.requires_grad_(False)
    for style in ("stl", "dreg"):
        gradient = torch.autograd.grad(loss_of(IWAE(3, style), model, x), list(model.decoder.parameters()))
        assert all(part.isfinite().all() for part in gradient)


def test_a_scaled_loss_has_the_scaled_gradient() -> None:
    """As losses are scaled for float16, and divided where batches are accumulated."""
    model, x = build("diagonal_gaussian", "standard_normal", "bernoulli"), torch.rand(3, 1, 4, 4)

    def gradient(scale: float) -> Tensor:
        torch.manual_seed(3)
        return torch.autograd.grad(scale * loss_of(IWAE(3, "dreg"), model, x), model.posterior.parameters())[0]

    torch.testing.assert_close(gradient(1024), 1024 * gradient(1))
