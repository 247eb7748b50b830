"""The shape of the largest weights, against scipy's distribution and fit, and weights of known tails."""

import math

import pytest
import scipy.stats
import torch

from vae.bound.pareto import generalized_pareto_shape, pareto_k, tail_size


@pytest.mark.parametrize("shape", [-0.5, -0.1, 0.2, 0.5, 0.9, 1.5])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e8])
def test_the_shape_is_that_of_scipys_draws_and_fit(shape: float, scale: float) -> None:
    n = 1000
    draws = scipy.stats.genpareto.rvs(shape, scale=scale, size=(n, 8), random_state=3)
    x = torch.from_numpy(draws).sort(0)[0]
    fitted = generalized_pareto_shape(x)
    # What is drawn towards ½ is given back.
    fitted = fitted + 10 / n * (fitted - 0.5)
    error = (1 + abs(shape)) / math.sqrt(n)
    assert (fitted - shape).abs().max() < 4 * error
    theirs = scipy.stats.genpareto.fit(draws[:, 0] / scale, floc=0)[0]
    assert fitted[0].item() == pytest.approx(theirs, abs=0.5 * error)


@pytest.mark.parametrize("shape", [0.3, 0.7, 1.2])
def test_weights_with_a_pareto_tail_have_its_shape(shape: float) -> None:
    k = 100_000
    log_w = -shape * torch.rand(k, 4, dtype=torch.float64).log() - 7000
    top = log_w.topk(tail_size(k) + 1, 0)[0]
    assert (pareto_k(top, k) - shape).abs().max() < 0.25


def test_weights_that_are_alike_have_no_tail_and_few_have_no_shape() -> None:
    alike = torch.zeros(tail_size(1000) + 1, 2)
    assert (pareto_k(alike, 1000) == -math.inf).all()
    assert pareto_k(torch.randn(3, 2).sort(0, descending=True)[0], 10).isnan().all()


def test_bounded_weights_are_good_and_those_without_a_mean_are_not() -> None:
    k = 5000
    size = tail_size(k) + 1
    bounded = torch.rand(k, 50, dtype=torch.float64).log().topk(size, 0)[0]
    assert (pareto_k(bounded, k) < 0.5).all()
    without_mean = (-1.5 * torch.rand(k, 50, dtype=torch.float64).log()).topk(size, 0)[0]
    assert (pareto_k(without_mean, k) > 0.7).all()
