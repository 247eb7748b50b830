"""The latents' normal distributions are torch's, with the same draws, densities and KL."""

import pytest
import torch
from torch import Size
from torch.distributions import Independent, Normal, kl_divergence

from vae.posterior.diagonal_gaussian import LogScaleNormal
from vae.prior.standard_normal import UnitNormal


@pytest.fixture
def pair(float64: None) -> tuple[LogScaleNormal, Normal]:
    mean, log_scale = torch.randn(5, 3), torch.randn(5, 3)
    return LogScaleNormal(mean, log_scale), Normal(mean, log_scale.exp())


def test_draws_and_densities(pair: tuple[LogScaleNormal, Normal]) -> None:
    draws = []
    for q in pair:
        torch.manual_seed(1)
        draws.append(q.rsample(Size((7,))))
    torch.testing.assert_close(*draws)
    torch.testing.assert_close(pair[0].log_prob(draws[0]), pair[1].log_prob(draws[0]))
    torch.testing.assert_close(pair[0].entropy(), pair[1].entropy())
    assert pair[0].expand([2, 5, 3]).log_prob(draws[0][:2]).shape == (2, 5, 3)


def test_unit_normal_and_the_kl_to_it(pair: tuple[LogScaleNormal, Normal]) -> None:
    zero, one = torch.zeros(3), torch.ones(3)
    ours, torchs = UnitNormal(zero, one), Normal(zero, one)
    x = torch.randn(5, 3)
    torch.testing.assert_close(ours.log_prob(x), torchs.log_prob(x))
    torch.testing.assert_close(kl_divergence(pair[0], ours), kl_divergence(pair[1], torchs))
    of_images = kl_divergence(Independent(pair[0], 1), Independent(ours, 1))
    torch.testing.assert_close(of_images, kl_divergence(pair[1], torchs).sum(-1))
    # Of any normal distribution, and against any.
    torch.testing.assert_close(kl_divergence(pair[1], ours), kl_divergence(pair[1], torchs))
    other = Normal(zero + 1, one * 2)
    torch.testing.assert_close(kl_divergence(pair[0], other), kl_divergence(pair[1], other))


def test_the_gradient_and_the_hessian_of_the_kl_are_those_of_torchs_formula(float64: None) -> None:
    gradients, hessians = [], []
    for normal in (LogScaleNormal, lambda mean, log_scale: Normal(mean, log_scale.exp())):
        torch.manual_seed(2)
        mean, log_scale, weight = torch.randn(3, 4, 2).requires_grad_().unbind()
        kl = kl_divergence(normal(mean, log_scale), UnitNormal(torch.zeros(2), torch.ones(2)))
        gradient = torch.autograd.grad((weight * kl).sum(), (mean, log_scale), create_graph=True)
        gradients.append(gradient)
        hessians.append(
            [
                torch.autograd.grad(g.sum(), v, retain_graph=True)[0]
                for g, v in zip(gradient, (mean, log_scale), strict=True)
            ]
        )
        torch.testing.assert_close(hessians[-1], [weight, weight * 2 * (2 * log_scale).exp()])
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(*hessians)
