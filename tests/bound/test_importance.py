"""log p(x) by importance sampling against the exact value of the linear-Gaussian VAE."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from linear_gaussian import SHAPE, exact_log_px, linear_model, make_posterior_exact
from training.test_combination import build
from vae.bound.importance import (
    ELEMENTS,
    Defensive,
    RunningWeights,
    log_marginal,
    remaining_bias,
    stages,
)
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
    assert (errors.abs() < 5).all()  # Student's t with 15 degrees of freedom


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
    weights = RunningWeights(5, 1000, log_w.device)
    for part in log_w.split([1, 9, 200, 790]):
        weights.add(part)
    normalised = log_w.softmax(0)
    torch.testing.assert_close(weights.result().log_px, log_w.logsumexp(0) - math.log(1000))
    torch.testing.assert_close(weights.result().ess, 1 / normalised.square().sum(0))


def test_impossible_draws_weigh_nothing() -> None:
    log_w = torch.tensor([[-math.inf, -math.inf], [-3e5, -math.inf], [-math.inf, -math.inf]])
    weights = RunningWeights(2, 3, log_w.device)
    for part in log_w:
        weights.add(part[None])
    result = weights.result()
    torch.testing.assert_close(result.log_px[0].item(), -3e5 - math.log(3))
    assert result.log_px[1] == -math.inf
    assert result.ess[0] == 1


@pytest.mark.parametrize("split", [[1600], [1, 6, 700, 893]])
def test_the_standard_error_is_the_spread_of_groups(split: list[int]) -> None:
    w = torch.rand(1600, 3, dtype=torch.float64) + 0.1
    weights = RunningWeights(3, 1600, w.device)
    for part in w.log().split(split):
        weights.add(part)
    result = weights.result()
    means = w.unflatten(0, (-1, 16)).mean(0).log()
    torch.testing.assert_close(result.stderr, means.std(0) / 4)
    halves, quarters = (w.unflatten(0, (-1, n)).mean(0).log().mean(0) for n in (2, 4))
    torch.testing.assert_close(result.doublings, torch.stack((w.mean(0).log() - halves, halves - quarters), 1))
    # With a light tail it is about the sample formula's.
    torch.testing.assert_close(result.stderr, w.std(0) / 40 / w.mean(0), rtol=0.5, atol=0)


@pytest.mark.parametrize("spread", [0.5, 1.0, 2.0, 3.0])
def test_the_interval_covers_the_mean_of_heavy_tailed_weights(spread: float) -> None:
    """Of 100 means over 20 images, whose exact value is spread²/2; the sample formula covers 20 of the last."""
    covered = 0
    for _ in range(100):
        log_w = spread * torch.randn(500, 20, dtype=torch.float64)
        weights = RunningWeights(20, 500, log_w.device)
        weights.add(log_w)
        result = weights.result()
        error = (result.log_px.mean() - spread**2 / 2).abs()
        stderr = torch.hypot(result.stderr.square().sum().sqrt() / 20, remaining_bias(result.doublings))
        covered += int(error < 2 * stderr)
    assert covered >= 88


class TwoModes:
    """x = z² + σ ε with z ~ N(0, 1), whose posterior has a mode on each side of 0."""

    params_per_draw = 1

    def p_z(self) -> Distribution:
        return Independent(Normal(torch.zeros(1), torch.ones(1)), 1)

    def decode(self, z: Tensor, label: Tensor | None = None) -> Distribution:
        return Independent(Normal(z.square()[..., None, None], 0.1), 3)

    def noise(self, k: int, images: int) -> Tensor:
        raise NotImplementedError

    def draw(self, q: Distribution, noise: Tensor) -> Tensor:
        raise NotImplementedError

    def exact(self, x: Tensor) -> Tensor:
        z = torch.linspace(-6, 6, 200_001)[:, None]
        log_joint = self.decode(z).log_prob(x) + self.p_z().log_prob(z)
        return log_joint.logsumexp(0) + math.log(12 / 200_000)


@pytest.mark.parametrize(("side", "width"), [(1.0, 0.05), (1.0, 0.004), (0.0, 0.05)])
def test_a_defensive_proposal_finds_what_q_misses(side: float, width: float, float64: None) -> None:
    """One mode of two, a q that is ten times too narrow, and one in the wrong place, against quadrature."""
    model, x = TwoModes(), torch.tensor([0.5, 1.0, 1.5]).reshape(3, 1, 1, 1)
    exact = torch.stack([model.exact(one[None]) for one in x]).squeeze(-1)
    mean = side * x.reshape(3, 1).sqrt()
    q = Independent(Normal(mean, torch.full_like(mean, width)), 1)
    errors = []
    for seed in range(30):
        torch.manual_seed(seed)
        found = log_marginal(model, x, q, 2000, proposal="defensive")
        errors.append((found.log_px - exact) / found.stderr)
    z = torch.stack(errors)
    assert (z.abs() < 2).double().mean() > 0.85
    assert z.mean().abs() < 0.5
    missed = log_marginal(model, x, q, 2000)
    assert ((missed.log_px - exact) < -0.3).all()


@pytest.mark.parametrize("posterior", ["diagonal_gaussian", "full_gaussian", "flow"])
@pytest.mark.parametrize("prior", ["standard_normal", "gaussian_mixture", "flow", "vamp"])
def test_a_defensive_proposal_has_the_density_of_its_draws(posterior: str, prior: str) -> None:
    """E_r[q / r] = E_r[p / r] = 1, with weights that are at most 2 and 4."""
    model = build(posterior, prior, "bernoulli")
    with torch.no_grad():
        q, p = model.encode(torch.rand(2, 1, 4, 4)), model.p_z()
        r = Defensive(q, p)
        z = r.rsample(torch.Size((4000,)))
        assert z.shape == (4000, 2, 2)
        for part, most in ((q, 2), (p, 4)):
            ratio = (part.log_prob(z) - r.log_prob(z)).exp()
            assert ratio.max() <= most * 1.001
            assert ((ratio.mean(0) - 1).abs() < 5 * ratio.std(0) / 4000**0.5).all()


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
