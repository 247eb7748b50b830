"""log p(x) by importance sampling against the exact value of the linear-Gaussian VAE."""

import math

import pytest
import torch
from torch.distributions import Independent

from linear_gaussian import SHAPE, exact_log_px, linear_model, make_posterior_exact
from vae.bound.importance import ELEMENTS, RunningWeights, stages
from vae.model import LatentModel


def good_model(widening: float = 1.3) -> LatentModel:
    """The exact posterior with its σ made wider, so that the weights vary but have every moment."""
    model = linear_model()
    make_posterior_exact(model)
    with torch.no_grad():
        model.posterior.mean_and_log_scale.bias[model.latent_size :] += math.log(widening)
    return model


@pytest.mark.parametrize("k", [50, 1000])
def test_the_estimate_is_within_three_standard_errors_of_the_exact_value(float64: None, k: int) -> None:
    model, x = good_model(), torch.rand(20, *SHAPE)
    estimate = model.log_marginal(x, k)
    errors = (estimate.log_px - exact_log_px(model, x)) / estimate.stderr
    # 20 independent images: of their mean the standard error is 1/√20.
    assert errors.mean().abs() < 3 / 20**0.5 + 0.1
    assert (errors.abs() < 4).all()


def test_the_standard_error_is_calibrated(float64: None) -> None:
    model, x = good_model(), torch.rand(1, *SHAPE)
    estimate = model.log_marginal(x.expand(200, -1, -1, -1), 100)
    deviations = (estimate.log_px - exact_log_px(model, x)) / estimate.stderr
    # The rms of 200 standard normals is 1 ± 0.05.
    assert 0.85 < deviations.square().mean().sqrt() < 1.15
    assert (estimate.stderr.mean() / estimate.log_px.std() - 1).abs() < 0.2


def test_the_nll_does_not_rise_with_k(float64: None) -> None:
    model, x = linear_model(), torch.rand(4, *SHAPE).repeat(300, 1, 1, 1)
    convergence = model.log_marginal(x, 1000).convergence
    assert list(convergence) == [1, 10, 100, 1000]
    means = [value.mean() for value in convergence.values()]
    assert means == sorted(means)


def test_convergence_holds_the_estimates_of_the_first_draws(float64: None) -> None:
    model, x = linear_model(), torch.rand(3, *SHAPE)
    torch.manual_seed(1)
    long = model.log_marginal(x, 1000)
    torch.manual_seed(1)
    short = model.log_marginal(x, 10)
    torch.testing.assert_close(long.convergence[10], short.log_px)
    torch.testing.assert_close(long.convergence[1000], long.log_px)


@pytest.mark.parametrize("chunk", [None, 1, 4, 1000])
@pytest.mark.parametrize("k", [1, 7, 10, 101])
def test_exactly_k_draws_are_taken_and_each_image_is_encoded_once(
    monkeypatch: pytest.MonkeyPatch, k: int, chunk: int | None
) -> None:
    model, x, drawn, encoded = linear_model(), torch.rand(3, *SHAPE), list[int](), list[int]()
    rsample = Independent.rsample
    monkeypatch.setattr(Independent, "rsample", lambda q, shape: drawn.append(shape[0]) or rsample(q, shape))
    model.encoder.register_forward_hook(lambda module, given, out: encoded.append(len(out)))
    model.log_marginal(x, k, chunk)
    assert sum(drawn) == k
    assert max(drawn) <= (chunk or k)
    assert encoded == [3]


def test_running_sums_equal_the_sums_of_all_weights() -> None:
    log_w = 300 * torch.randn(1000, 5, dtype=torch.float64) - 5000
    weights = RunningWeights(5, log_w.device)
    for part in log_w.split([1, 9, 200, 790]):
        weights.add(part)
    normalised = log_w.softmax(0)
    torch.testing.assert_close(weights.result().log_px, log_w.logsumexp(0) - math.log(1000))
    torch.testing.assert_close(weights.result().ess, 1 / normalised.square().sum(0))


def test_impossible_draws_weigh_nothing() -> None:
    log_w = torch.tensor([[-math.inf, -math.inf], [-3e5, -math.inf], [-math.inf, -math.inf]])
    weights = RunningWeights(2, log_w.device)
    for part in log_w:
        weights.add(part[None])
    result = weights.result()
    torch.testing.assert_close(result.log_px[0].item(), -3e5 - math.log(3))
    assert result.log_px[1] == -math.inf
    assert result.ess[0] == 1


def test_the_standard_error_is_the_sample_formula() -> None:
    w = torch.rand(50, 3, dtype=torch.float64) + 0.1
    weights = RunningWeights(3, w.device)
    weights.add(w.log())
    torch.testing.assert_close(weights.result().stderr, w.std(0) / 50**0.5 / w.mean(0))


def test_one_draw_has_no_standard_error(float64: None) -> None:
    estimate = linear_model().log_marginal(torch.rand(2, *SHAPE), 1)
    assert estimate.stderr.isnan().all()
    torch.testing.assert_close(estimate.ess, torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(
    ("k", "expected"), [(1, [1]), (5, [1, 5]), (10, [1, 10]), (11, [1, 10, 11]), (100, [1, 10, 100])]
)
def test_stages_end_at_k(k: int, expected: list[int]) -> None:
    assert stages(k) == expected


@pytest.mark.parametrize("images", [1, 10, 1000])
@pytest.mark.parametrize("elements", [1, 50, 5000])
def test_what_is_in_memory_at_a_time_is_bounded(
    images: int, elements: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, decoded = linear_model(), list[int]()
    monkeypatch.setitem(ELEMENTS, "cpu", elements)
    model.decoder.register_forward_hook(lambda module, given, out: decoded.append(len(out)))
    model.log_marginal(torch.rand(images, *SHAPE), 7)
    assert sum(decoded) == 7 * images
    assert max(decoded) == 1 or max(decoded) * model.params_per_draw <= elements


def test_images_that_are_decoded_apart_get_their_own_weights(
    float64: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many images at a time as there are, or two: the same draws and the same estimates."""
    model, x = linear_model(), torch.rand(7, *SHAPE)
    torch.manual_seed(1)
    whole = model.log_marginal(x, 30, chunk=4)
    monkeypatch.setitem(ELEMENTS, "cpu", 2 * 4 * x[0].numel())
    torch.manual_seed(1)
    parts = model.log_marginal(x, 30, chunk=4)
    torch.testing.assert_close(parts.log_px, whole.log_px)
    torch.testing.assert_close(parts.ess, whole.ess)
