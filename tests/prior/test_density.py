"""A density fitted to latents has their moments, and stands in for the prior."""

from functools import partial

import pytest
import torch

from linear_gaussian import LINEAR, SHAPE, linear_model
from vae import fit_density
from vae.checks import ConfigError
from vae.likelihood.gaussian import Gaussian
from vae.model import LatentModel
from vae.network.mlp import MLPDecoder, MLPEncoder
from vae.posterior.delta import Delta
from vae.prior.fitted_density import FittedDensity
from vae.prior.standard_normal import StandardNormal


def test_one_gaussian_has_the_moments_of_the_latents() -> None:
    model, images = linear_model(), torch.rand(3000, *SHAPE)
    density = fit_density(model, images, components=1, of="means")
    means = model.encode(images).mean.detach()
    torch.testing.assert_close(density.mean[0], means.mean(0), atol=1e-4, rtol=1e-4)
    covariance = density.scale_tril[0] @ density.scale_tril[0].T
    torch.testing.assert_close(covariance, means.T.cov(correction=0), atol=1e-4, rtol=1e-3)


def test_draws_have_the_spread_of_the_aggregate_posterior() -> None:
    model, images = linear_model(), torch.rand(3000, *SHAPE)
    density = fit_density(model, images, components=1, of="draws")
    q = model.encode(images)
    total = q.variance.mean(0) + q.mean.var(0)
    torch.testing.assert_close(density.scale_tril[0].square().sum(1), total, atol=0, rtol=0.1)


def test_more_components_fit_no_worse_and_integrate_to_one() -> None:
    model, images = linear_model(), torch.rand(2000, *SHAPE)
    latents = model.encode(images).mean.detach()
    fits = [fit_density(model, images, n, of="means")(model.encode).log_prob(latents).mean() for n in (1, 4)]
    assert fits[1] >= fits[0] - 1e-3
    side = torch.linspace(-10, 10, 801)
    density = fit_density(model, images, 4)(model.encode)
    total = density.log_prob(torch.cartesian_prod(side, side)).exp().sum() * (20 / 800) ** 2
    assert total.item() == pytest.approx(1, abs=1e-3)


def test_autoencoder_samples_from_it_in_place_of_its_prior() -> None:
    model = LatentModel(
        SHAPE,
        2,
        partial(MLPEncoder, **LINEAR),
        partial(MLPDecoder, **LINEAR),
        Delta,
        StandardNormal,
        partial(Gaussian, sigma=0.1),
    )
    images = torch.rand(500, *SHAPE) + 3
    model.prior = fit_density(model, images, components=1)
    z = model.p_z().sample(torch.Size((20_000,)))
    assert z.shape == (20_000, 2)
    torch.testing.assert_close(z.mean(0), model.encode(images).mean.mean(0), atol=0.05, rtol=0)
    assert model.sample(5).shape == (5, *SHAPE)


def test_same_seed_same_fit_and_the_generators_are_left_alone() -> None:
    model, images = linear_model(), torch.rand(300, *SHAPE)
    torch.manual_seed(9)
    first = fit_density(model, images, 3, seed=1)
    after = torch.rand(1)
    torch.manual_seed(9)
    assert torch.rand(1) == after
    second = fit_density(model, images, 3, seed=1)
    assert isinstance(second, FittedDensity)
    torch.testing.assert_close(first.state_dict(), second.state_dict())


def test_impossible_fits_are_refused() -> None:
    model, images = linear_model(), torch.rand(5, *SHAPE)
    with pytest.raises(ConfigError, match="components=6: must be at most the number of images, 5"):
        fit_density(model, images, 6)
    with pytest.raises(ConfigError, match="components=0"):
        fit_density(model, images, 0)
    with pytest.raises(ConfigError, match="of=modes: must be one of draws, means"):
        fit_density(model, images, 1, of="modes")
