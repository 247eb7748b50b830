"""Gaussian likelihoods are normalised densities, constants included."""

import math

import pytest
import scipy.stats
import torch

from vae.checks import ConfigError
from vae.likelihood.gaussian import Gaussian, GaussianLearned

SHAPE = (2, 3, 4)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 1, 2.5])
def test_log_density_equals_scipy_with_constants(sigma: float, float64: None) -> None:
    mean, x = torch.rand(3, 5, *SHAPE), torch.rand(5, *SHAPE)
    ours = Gaussian(SHAPE, sigma)(mean).log_prob(x)
    theirs = scipy.stats.norm(mean.numpy(), sigma).logpdf(x.numpy()).sum((-3, -2, -1))
    torch.testing.assert_close(ours, torch.from_numpy(theirs), rtol=1e-6, atol=1e-5)


def test_sigma_one_is_half_the_squared_error_plus_a_constant() -> None:
    mean, x = torch.rand(1, 5, *SHAPE), torch.rand(5, *SHAPE)
    constant = 0.5 * math.prod(SHAPE) * math.log(2 * math.pi)
    squared_error = (mean - x).square().sum((-3, -2, -1))
    torch.testing.assert_close(Gaussian(SHAPE, 1)(mean).log_prob(x), -squared_error / 2 - constant)


def test_learned_sigma_starts_where_asked_and_gets_the_gradient_of_the_density() -> None:
    likelihood = GaussianLearned(SHAPE, init_sigma=0.4, min_sigma=0.1)
    assert likelihood.sigma.item() == pytest.approx(0.4, rel=1e-6)
    mean, x = torch.rand(1, 5, *SHAPE), torch.rand(5, *SHAPE)
    sigma = likelihood.sigma
    gradient = torch.autograd.grad(likelihood(mean).log_prob(x).sum(), likelihood.raw_sigma)[0]
    # d/dσ log N = (r² / σ³ − 1/σ), and dσ/dρ = sigmoid(ρ).
    residuals = (mean - x).square()
    expected = (residuals / sigma**3 - 1 / sigma).sum() * likelihood.raw_sigma.sigmoid()
    torch.testing.assert_close(gradient, expected)


def test_learned_sigma_never_falls_below_its_bound() -> None:
    likelihood = GaussianLearned(SHAPE, init_sigma=0.4, min_sigma=0.1)
    likelihood.raw_sigma.data.fill_(-1e4)
    assert likelihood.sigma.item() == pytest.approx(0.1)
    assert likelihood(torch.zeros(1, 5, *SHAPE)).log_prob(torch.zeros(5, *SHAPE)).isfinite().all()


@pytest.mark.parametrize("sigma", [0, -1.0, float("nan"), float("inf")])
def test_impossible_sigma_is_refused(sigma: float) -> None:
    with pytest.raises(ConfigError, match=r"likelihood\.sigma=.*above 0"):
        Gaussian(SHAPE, sigma)


def test_start_of_learned_sigma_must_be_above_its_bound() -> None:
    with pytest.raises(ConfigError, match=r"likelihood\.init_sigma=0\.01"):
        GaussianLearned(SHAPE, init_sigma=0.01, min_sigma=0.1)
