"""The standard gradient is the loss's, and `stl` and `dreg` have its mean, for every posterior and prior."""

import pytest
import torch
from torch import Tensor

from drawn import loss_of
from training.test_combination import CODED, OBJECTIVES, OVER_CODES, build, names
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


@pytest.mark.parametrize("likelihood", names("likelihood"))
@pytest.mark.parametrize("objective", [name for name in OBJECTIVES if "stl" not in name and "dreg" not in name])
def test_the_standard_gradient_is_that_of_the_loss(objective: str, likelihood: str, float64: None) -> None:
    """Along a direction of all weights, against a difference of the loss from the same noise."""
    model, weighed = build("diagonal_gaussian", "standard_normal", likelihood), OBJECTIVES[objective]()
    x, noise = torch.rand(4, 1, 4, 4).round(), model.noise(weighed.draws, 4)
    weights = [p for p in model.parameters() if p.requires_grad]
    along = [torch.randn_like(p) for p in weights]

    def loss() -> Tensor:
        return weighed(model.terms(x, model.encode(x), noise), 0)

    gradient = torch.autograd.grad(loss(), weights, allow_unused=True)
    slope = sum((g * a).sum() for g, a in zip(gradient, along, strict=True) if g is not None)
    with torch.no_grad():
        torch._foreach_add_(weights, along, alpha=1e-6)
        after = loss()
        torch._foreach_add_(weights, along, alpha=-2e-6)
        before = loss()
    assert float(slope) == pytest.approx(float((after - before) / 2e-6), rel=1e-5, abs=1e-5)


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
