"""The diagonal Gaussian posterior: its density, its reparameterised draws, and its KL to N(0, I)."""

import torch
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from vae.bound.terms import analytic_kl
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.prior.standard_normal import StandardNormal

B, F, D = 6, 7, 3


def _pair() -> tuple[Independent, Independent]:
    return DiagonalGaussian(F, D)(torch.randn(B, F)), StandardNormal(D, (1, 2, 2))(lambda x: x)


def test_analytic_kl_is_the_closed_form() -> None:
    q, p = _pair()
    mean, variance = q.mean, q.variance
    closed = 0.5 * (mean.square() + variance - 1 - variance.log()).sum(-1)
    kl = analytic_kl(q, p)
    torch.testing.assert_close(kl, closed)


def test_analytic_kl_equals_that_of_full_covariance_gaussians() -> None:
    q, p = _pair()
    full_q = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    full_p = MultivariateNormal(torch.zeros(D), torch.eye(D))
    kl = analytic_kl(q, p)
    torch.testing.assert_close(kl, kl_divergence(full_q, full_p))


def test_analytic_kl_equals_its_monte_carlo_estimate() -> None:
    q, p = _pair()
    z = q.rsample(torch.Size((200_000,)))
    log_ratio = q.log_prob(z) - p.log_prob(z)
    kl = analytic_kl(q, p)
    stderr = log_ratio.std(0) / len(log_ratio) ** 0.5
    assert ((log_ratio.mean(0) - kl).abs() < 4.5 * stderr).all()


def test_density_is_that_of_independent_normals() -> None:
    q, _ = _pair()
    z = q.rsample(torch.Size((2,)))
    assert z.shape == (2, B, D)
    torch.testing.assert_close(q.log_prob(z), Normal(q.mean, q.stddev).log_prob(z).sum(-1))


def test_draws_are_mean_plus_scale_times_noise() -> None:
    q, _ = _pair()
    torch.manual_seed(1)
    z = q.rsample(torch.Size((4,)))
    torch.manual_seed(1)
    torch.testing.assert_close(z, q.mean + q.stddev * torch.randn(4, B, D))
