"""Metrics against their definitions, on batches of unequal sizes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from drawn import drawn
from linear_gaussian import SHAPE, exact_log_px, linear_model
from vae.metric.active_units import ActiveUnits
from vae.metric.bound import Bound
from vae.metric.evaluated_batch import EvaluatedBatch, Sizes
from vae.metric.nll import NLL
from vae.metric.reconstruction_error import ReconstructionError
from vae.model import LatentModel
from vae.objective.elbo import ELBO

SIZES = Sizes(SHAPE, 2, discrete=True)


def _evaluate(model: LatentModel, x: torch.Tensor, beta: float = 1.0, first: int = 0) -> EvaluatedBatch:
    q = model.encode(x)
    terms = drawn(model, x, 3, q)
    loss = ELBO(k=3, beta=beta)(terms, 0)
    label = torch.zeros(len(x), dtype=torch.int64)
    return EvaluatedBatch(model, x, label, first, first, q, terms, loss, q.mean, model.decode(q.mean).mean)


def test_bound_is_the_mean_over_images_at_beta_one_whatever_was_minimised() -> None:
    model, metric = linear_model(), Bound(SIZES)
    batches = [_evaluate(model, torch.rand(n, *SHAPE), beta=4) for n in (5, 1, 2)]
    for batch in batches:
        metric.update(batch)
    values = metric.compute()
    elbo = torch.cat([batch.terms.elbo for batch in batches]).double().mean()
    torch.testing.assert_close(values["elbo"], elbo)
    torch.testing.assert_close(values["elbo"], -(values["distortion"] + values["rate"]))
    torch.testing.assert_close(values["bits_per_dim"], -elbo / (6 * math.log(2)))
    torch.testing.assert_close(values["loss"], values["distortion"] + 4 * values["rate"])


def test_bits_are_for_discrete_likelihoods_only() -> None:
    model, metric = linear_model(), Bound(Sizes(SHAPE, 2, discrete=False))
    metric.update(_evaluate(model, torch.rand(2, *SHAPE)))
    assert "bits_per_dim" not in metric.compute()


def test_nll_has_the_exact_value_and_the_standard_error_of_a_mean() -> None:
    model, metric = linear_model(), NLL(SIZES, k=5000)
    x = torch.rand(40, *SHAPE)
    for first, batch in zip((0, 15, 30), x.split(15), strict=True):
        metric.update(_evaluate(model, batch, first=first))
    values, exact = metric.compute(), exact_log_px(model, x)
    assert values["nll"].item() == pytest.approx(-exact.mean().item(), abs=0.02)
    assert values["nll_stderr"].item() == pytest.approx(exact.std().item() / 40**0.5, rel=0.05)
    assert 1 < values["nll_ess"] <= 5000
    assert values["nll_k"] == 5000


def test_active_units_counts_the_latents_whose_mean_moves() -> None:
    model, metric = linear_model(latent_size=4), ActiveUnits(Sizes(SHAPE, 4, True), threshold=0.01)
    layer = model.posterior.mean_and_log_scale
    with torch.no_grad():
        layer.weight[[1, 3]] = 0
        layer.weight[[0, 2]] = 2.0
    x = torch.rand(64, *SHAPE)
    for batch in x.split(30):
        metric.update(_evaluate(model, batch))
    assert metric.compute()["active_units"] == 2
    expected = model.encode(x).mean.double().var(0, unbiased=False)
    torch.testing.assert_close(metric.variances(), expected, rtol=1e-4, atol=1e-9)


@pytest.mark.parametrize(("size", "channels"), [(28, 1), (12, 3), (8, 1), (4, 1)])
def test_mse_and_psnr_are_means_over_images(size: int, channels: int) -> None:
    shape = (channels, size, size)
    metric = ReconstructionError(Sizes(shape, 2, False))
    x, restored = torch.rand(5, *shape), torch.rand(5, *shape)
    model = linear_model()
    for part in (slice(0, 3), slice(3, 5)):
        any_batch = _evaluate(model, torch.rand(len(x[part]), *SHAPE))
        metric.update(replace(any_batch, x=x[part], reconstruction=restored[part]))
    values = metric.compute()
    errors = ((x - restored) ** 2).flatten(1).mean(1).numpy()
    assert values["mse"].item() == pytest.approx(errors.mean(), rel=1e-5)
    assert values["psnr"].item() == pytest.approx(np.mean(-10 * np.log10(errors)), rel=1e-5)
    assert ("ssim" in values) == (size >= 7)
    if size >= 7:
        assert -1 <= values["ssim"] <= 1


def test_ssim_of_an_image_with_itself_is_one() -> None:
    metric = ReconstructionError(Sizes((1, 16, 16), 2, False))
    x = torch.rand(3, 1, 16, 16)
    model = linear_model()
    metric.update(replace(_evaluate(model, torch.rand(3, *SHAPE)), x=x, reconstruction=x))
    assert metric.compute()["ssim"].item() == pytest.approx(1)
