"""Every likelihood is normalised, its draws have its mean, and it starts at the mean image."""

import math
from functools import partial

import pytest
import scipy.stats
import torch
from hydra.utils import instantiate
from torch import Tensor, nn
from torch.distributions import ContinuousBernoulli as TorchContinuousBernoulli
from torch.distributions import MixtureSameFamily, Normal

from component_config import component_config
from vae.checks import ConfigError
from vae.likelihood.categorical import Categorical
from vae.likelihood.continuous_bernoulli import ContinuousBernoulli, TiltedUniform
from vae.likelihood.discretized import DiscretizedGaussian, DiscretizedLogistic
from vae.likelihood.gaussian import GaussianPerPixel
from vae.likelihood.gaussian_optimal import GaussianOptimal
from vae.paths import CONF

NAMES = sorted(file.stem for file in (CONF / "likelihood").glob("*.yaml"))
SHAPE = (2, 3, 3)
LEVELS = torch.arange(256, dtype=torch.float64) / 255
BUILD = {
    "discretized_gaussian": partial(DiscretizedGaussian, sigma=0.07),
    "wide_discretized_gaussian": partial(DiscretizedGaussian, sigma=1),
    "narrow_discretized_gaussian": partial(DiscretizedGaussian, sigma=0.001),
    "discretized_logistic": DiscretizedLogistic,
    "mixture_of_3": partial(DiscretizedLogistic, components=3),
    "categorical": Categorical,
}


def _from_conf(name: str, shape: tuple[int, int, int] = SHAPE) -> nn.Module:
    return instantiate(component_config("likelihood", name))(shape)


@pytest.mark.parametrize("name", BUILD)
@pytest.mark.parametrize("spread", [0.3, 5.0])
def test_probabilities_of_the_256_levels_sum_to_one(name: str, spread: float, float64: None) -> None:
    likelihood = BUILD[name]((1, 1, 1))
    params = spread * torch.randn(50, *likelihood.param_shape) + 0.5
    log_p = torch.stack([likelihood(params).log_prob(level.expand(1, 1, 1)) for level in LEVELS])
    torch.testing.assert_close(log_p.logsumexp(0), torch.zeros(50), atol=1e-9, rtol=0)


@pytest.mark.parametrize("name", BUILD)
def test_probabilities_are_right_in_float32(name: str) -> None:
    likelihood = BUILD[name]((1, 1, 1))
    params = 0.3 * torch.randn(50, *likelihood.param_shape) + 0.5
    log_p = torch.stack([likelihood(params).log_prob(level.expand(1, 1, 1)) for level in LEVELS.float()])
    torch.testing.assert_close(log_p.logsumexp(0), torch.zeros(50), atol=1e-4, rtol=0)


def test_continuous_bernoulli_integrates_to_one_at_any_logit(float64: None) -> None:
    logits = torch.tensor([-300.0, -20, -1, -0.1, -1e-3, 0, 1e-6, 0.02, 3, 40, 300])
    x = torch.linspace(0, 1, 200_001)[:, None]
    total = torch.trapezoid(TiltedUniform(logits).log_prob(x).exp(), x, dim=0)
    torch.testing.assert_close(total, torch.ones(len(logits)), atol=1e-6, rtol=0)


def test_continuous_bernoulli_equals_torch_where_that_is_right(float64: None) -> None:
    logits, x = torch.randn(7, *SHAPE) * 3, torch.rand(7, *SHAPE)
    ours, theirs = TiltedUniform(logits), TorchContinuousBernoulli(logits=logits, lims=(0.49999, 0.50001))
    torch.testing.assert_close(ours.log_prob(x), theirs.log_prob(x), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(ours.mean, theirs.mean, atol=1e-6, rtol=1e-6)


def test_per_pixel_gaussian_equals_scipy(float64: None) -> None:
    likelihood = GaussianPerPixel(SHAPE, init_sigma=0.5, min_sigma=0.1)
    params, x = torch.randn(3, 5, *likelihood.param_shape), torch.rand(5, *SHAPE)
    mean, raw = params.chunk(2, dim=-3)
    sigma = 0.1 + torch.log1p(raw.exp())
    theirs = scipy.stats.norm(mean.numpy(), sigma.numpy()).logpdf(x.numpy()).sum((-3, -2, -1))
    torch.testing.assert_close(likelihood(params).log_prob(x), torch.from_numpy(theirs))


def test_discretized_gaussian_equals_differences_of_scipy(float64: None) -> None:
    mean, x = 0.3 + 0.4 * torch.rand(4, *SHAPE), torch.randint(1, 255, (4, *SHAPE)).double() / 255
    normal = scipy.stats.norm(mean.numpy(), 0.2)  # within 4 σ, as the difference cancels beyond
    cells = normal.cdf((x + 0.5 / 255).numpy()) - normal.cdf((x - 0.5 / 255).numpy())
    theirs = torch.from_numpy(cells).log().sum((-3, -2, -1))
    torch.testing.assert_close(DiscretizedGaussian(SHAPE, 0.2)(mean).log_prob(x), theirs, atol=1e-8, rtol=1e-7)


def test_discretized_logistic_equals_differences_of_scipy(float64: None) -> None:
    likelihood = DiscretizedLogistic((1, 1, 1), components=2)
    params = torch.randn(likelihood.param_shape)
    mean, raw, logits = params.flatten().reshape(3, 2)
    logistic = scipy.stats.logistic(mean.numpy(), (0.002 + torch.log1p(raw.exp())).numpy())
    x = 100 / 255
    cells = logistic.cdf(x + 0.5 / 255) - logistic.cdf(x - 0.5 / 255)
    expected = math.log((torch.from_numpy(cells) * logits.softmax(0)).sum())
    assert likelihood(params).log_prob(torch.full((1, 1, 1), x)).item() == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_the_end_levels_carry_the_tails(level: float, float64: None) -> None:
    """A mean far outside puts all the mass on the nearest level, and the gradient stays finite."""
    outside = torch.full((1, 1, 1), -3.0 if level == 0 else 4.0)
    p = DiscretizedGaussian((1, 1, 1), 0.1)(outside)
    assert p.log_prob(torch.full((1, 1, 1), level)).item() == pytest.approx(0, abs=1e-12)
    normal = scipy.stats.norm(0.3, 0.2)
    tail = normal.cdf(0.5 / 255) if level == 0 else normal.sf(1 - 0.5 / 255)
    q = DiscretizedGaussian((1, 1, 1), 0.2)(torch.full((1, 1, 1), 0.3))
    assert q.log_prob(torch.full((1, 1, 1), level)).item() == pytest.approx(math.log(tail))


@pytest.mark.parametrize("name", ["discretized_gaussian", "narrow_discretized_gaussian", "discretized_logistic"])
@pytest.mark.parametrize("mean", [-20.0, 0.0, 0.5, 1.0, 30.0])
def test_log_probabilities_and_gradients_are_finite_however_wrong_the_mean(name: str, mean: float) -> None:
    likelihood = BUILD[name]((1, 1, 1))
    params = torch.full((256, *likelihood.param_shape), mean, requires_grad=True)
    log_p = likelihood(params).log_prob(LEVELS.float()[:, None, None, None])
    (gradient,) = torch.autograd.grad(log_p.sum(), params)
    assert log_p.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", [n for n in NAMES if _from_conf(n).has_mean])
def test_draws_have_the_mean(name: str) -> None:
    likelihood = _from_conf(name).eval()
    p = likelihood(0.4 * torch.randn(likelihood.param_shape) + 0.5)
    draws = p.sample(torch.Size((20_000,)))
    assert draws.shape == (20_000, *SHAPE)
    stderr = draws.std(0) / 20_000**0.5
    assert ((draws.mean(0) - p.mean).abs() < 4.5 * stderr + 1e-3).all()


@pytest.mark.parametrize("name", [n for n in NAMES if _from_conf(n).support == "bytes"])
def test_draws_of_discrete_likelihoods_are_levels_with_their_frequencies(name: str) -> None:
    likelihood = _from_conf(name, (1, 1, 1))
    p = likelihood(0.3 * torch.randn(likelihood.param_shape) + 0.5)
    level = (p.sample(torch.Size((100_000,))) * 255).flatten()
    torch.testing.assert_close(level, level.round(), atol=1e-4, rtol=0)
    observed = torch.bincount(level.round().long(), minlength=256) / 100_000
    expected = torch.stack([p.log_prob(x.expand(1, 1, 1)) for x in LEVELS.float()]).exp()
    assert (observed - expected).abs().max() < 5 * (expected.max() / 100_000).sqrt()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("draws", [(), (7,), (2, 3)])
def test_draws_of_any_shape_can_be_scored(name: str, draws: tuple[int, ...]) -> None:
    likelihood = _from_conf(name).eval()
    p = likelihood(torch.randn(4, *likelihood.param_shape))
    x = p.sample(torch.Size(draws))
    assert x.shape == (*draws, 4, *SHAPE)
    log_p = p.log_prob(x)
    assert log_p.shape == (*draws, 4)
    torch.testing.assert_close(log_p.reshape(-1, 4)[-1], p.log_prob(x.reshape(-1, 4, *SHAPE)[-1]))


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # by torch, of its rules for forward mode
@pytest.mark.parametrize("name", NAMES)
def test_gradients_and_second_derivatives_are_those_of_the_values(name: str, float64: None) -> None:
    likelihood = _from_conf(name, (1, 1, 2))
    params, x = (
        torch.randn(2, *likelihood.param_shape, requires_grad=True),
        (torch.rand(2, 1, 1, 2) > 0.5).double(),
    )

    def log_p(some: Tensor) -> Tensor:
        return likelihood(some).log_prob(x)

    assert torch.autograd.gradcheck(log_p, params)
    assert torch.autograd.gradgradcheck(log_p, params, atol=1e-4)
    total = lambda some: log_p(some).sum()  # noqa: E731
    by_autograd = torch.autograd.functional.hessian(total, params)
    torch.testing.assert_close(torch.func.hessian(total)(params.detach()), by_autograd)


@pytest.mark.parametrize("name", [n for n in NAMES if not _from_conf(n).couples_batch])
def test_gradients_of_each_image_are_the_same_batched(name: str) -> None:
    """By torch.func, as stacks and per-image gradients take them."""
    likelihood = _from_conf(name)
    params, x = torch.randn(5, *likelihood.param_shape), (torch.rand(5, *SHAPE) * 255).round() / 255
    x = x.round() if likelihood.support == "binary" else x
    gradient = torch.func.grad(lambda some, of: likelihood(some).log_prob(of))
    together = torch.func.vmap(gradient)(params, x)
    torch.testing.assert_close(together, torch.stack([gradient(*pair) for pair in zip(params, x, strict=True)]))


@pytest.mark.parametrize("name", [n for n in NAMES if _from_conf(n).has_mean])
def test_decoder_starts_at_the_mean_image(name: str) -> None:
    likelihood, mean = _from_conf(name).eval(), torch.rand(SHAPE)
    params = likelihood.params_from_mean(mean)
    assert params.shape == likelihood.param_shape
    # Of the mean before clipping to [0, 1], for those that are clipped.
    assert (likelihood(params).mean - mean).abs().max() < (0.15 if likelihood.support == "bytes" else 0.03)


def test_continuous_bernoulli_starts_exactly_at_the_mean_image() -> None:
    likelihood, mean = ContinuousBernoulli(SHAPE), torch.rand(SHAPE).clamp(0.02, 0.98)
    torch.testing.assert_close(likelihood(likelihood.params_from_mean(mean)).mean, mean, atol=1e-4, rtol=0)


def test_optimal_sigma_is_the_maximum_of_the_batch_likelihood() -> None:
    likelihood, mean, x = GaussianOptimal(SHAPE), torch.rand(3, 5, *SHAPE), torch.rand(5, *SHAPE)
    best = likelihood(mean).log_prob(x).sum()
    sigma = (mean - x).square().mean().sqrt()
    torch.testing.assert_close(best, Normal(mean, sigma).log_prob(x).sum())
    assert all(Normal(mean, s * sigma).log_prob(x).sum() < best for s in (0.9, 0.99, 1.01, 1.1))


def test_optimal_sigma_is_frozen_in_evaluation_and_kept_in_checkpoints() -> None:
    likelihood, mean, x = GaussianOptimal(SHAPE), torch.rand(3, 5, *SHAPE), torch.rand(5, *SHAPE)
    likelihood.calibrate(torch.tensor(0.04))
    loaded = GaussianOptimal(SHAPE).eval()
    loaded.load_state_dict(likelihood.state_dict())
    expected = Normal(mean, 0.2).log_prob(x).sum((-3, -2, -1))
    torch.testing.assert_close(loaded(mean).log_prob(x), expected)
    # One image's score does not depend on the others that are scored with it.
    torch.testing.assert_close(loaded(mean[:, :1]).log_prob(x[:1]), expected[:, :1])


def test_mixture_mean_is_the_mixture_of_means() -> None:
    likelihood = DiscretizedLogistic((1, 1, 1), components=3)
    params = torch.tensor([0.2, 0.5, 0.8, -5, -5, -5, 0.1, 0.7, -0.4]).reshape(9, 1, 1)
    weight = torch.tensor([0.1, 0.7, -0.4]).softmax(0)
    expected = (weight * torch.tensor([0.2, 0.5, 0.8])).sum()
    torch.testing.assert_close(likelihood(params).mean.squeeze(), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sigma", [0, -0.1, math.inf])
def test_impossible_sigma_is_refused(sigma: float) -> None:
    with pytest.raises(ConfigError, match=r"likelihood\.sigma=.*above 0"):
        DiscretizedGaussian(SHAPE, sigma)


def test_impossible_scales_and_components_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"likelihood\.components=0"):
        DiscretizedLogistic(SHAPE, components=0)
    with pytest.raises(ConfigError, match=r"likelihood\.init_scale=0\.1: must be above min_scale=0\.2"):
        DiscretizedLogistic(SHAPE, init_scale=0.1, min_scale=0.2)
    with pytest.raises(ConfigError, match=r"likelihood\.min_sigma=0"):
        GaussianOptimal(SHAPE, min_sigma=0)


def test_mixture_same_family_agrees_with_the_unrounded_mixture_where_levels_are_fine(float64: None) -> None:
    """P(level) ≈ density / 255 for scales far above a level."""
    likelihood = DiscretizedLogistic((1, 1, 1), components=2)
    params = torch.randn(likelihood.param_shape)
    mean, raw, logits = params.flatten().reshape(3, 2)
    mixture = MixtureSameFamily(
        torch.distributions.Categorical(logits=logits),
        torch.distributions.TransformedDistribution(
            torch.distributions.Uniform(0.0, 1.0).expand((2,)),
            [
                torch.distributions.SigmoidTransform().inv,
                torch.distributions.AffineTransform(mean, 0.002 + torch.log1p(raw.exp())),
            ],
        ),
    )
    x = torch.tensor(100 / 255)
    ours = likelihood(params).log_prob(x.expand(1, 1, 1))
    torch.testing.assert_close(ours, mixture.log_prob(x) - math.log(255), atol=1e-4, rtol=0)
