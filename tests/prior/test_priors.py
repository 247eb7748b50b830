"""Priors: normalised densities whose draws have their moments, and whose parameters are trained."""

from functools import partial

import pytest
import torch
from torch import nn
from torch.distributions import Distribution, Independent, Normal

from vae.checks import ConfigError
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.posterior.flow import FlowPosterior
from vae.prior.flow import FlowPrior
from vae.prior.gaussian_mixture import GaussianMixture
from vae.prior.standard_normal import StandardNormal
from vae.prior.vamp import Vamp

SHAPE = (1, 2, 3)
PRIORS = {
    "standard_normal": StandardNormal,
    "gaussian_mixture": partial(GaussianMixture, components=3),
    "vamp": partial(Vamp, components=5),
    "autoregressive": FlowPrior,
    "coupling": partial(FlowPrior, kind="coupling"),
}


class Encoder(nn.Module):
    """x → q(z|x)."""

    def __init__(self, latent_size: int = 2):
        super().__init__()
        self.posterior = DiagonalGaussian(6, latent_size)

    def forward(self, x: torch.Tensor) -> Distribution:
        return self.posterior(x.flatten(1))


@pytest.mark.parametrize("name", PRIORS)
def test_density_integrates_to_one(name: str, float64: None) -> None:
    prior = PRIORS[name](2, SHAPE)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    side = torch.linspace(-15, 15, 151)
    total = prior(Encoder()).log_prob(torch.cartesian_prod(side, side)).exp().sum() * (30 / 150) ** 2
    assert total.item() == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", PRIORS)
def test_draws_have_the_moments_of_the_density(name: str, float64: None) -> None:
    """E_p of a bounded function, by draws and by quadrature."""
    prior, encode = PRIORS[name](2, SHAPE), Encoder()
    side = torch.linspace(-12, 12, 241)
    z = torch.cartesian_prod(side, side)
    p = prior(encode)
    by_quadrature = (p.log_prob(z).exp() @ torch.sin(z + 0.5)) * (24 / 240) ** 2
    draws = torch.sin(p.sample(torch.Size((50_000,))) + 0.5)
    assert draws.shape == (50_000, 2)
    stderr = draws.std(0) / 50_000**0.5
    assert ((draws.mean(0) - by_quadrature).abs() < 4.5 * stderr).all()


@pytest.mark.parametrize("name", PRIORS)
@pytest.mark.parametrize("latent_size", [1, 4])
def test_every_parameter_gets_a_gradient(name: str, latent_size: int) -> None:
    prior, encode = PRIORS[name](latent_size, SHAPE), Encoder(latent_size)
    log_pz = prior(encode).log_prob(torch.randn(3, 7, latent_size))
    assert log_pz.shape == (3, 7)
    if name != "standard_normal":
        log_pz.sum().backward()
    for parameter, value in prior.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.abs().sum() > 0, parameter


def test_mixture_is_the_weighted_sum_of_its_components(float64: None) -> None:
    prior, z = GaussianMixture(2, SHAPE, components=3), torch.randn(5, 2)
    prior.logits.data = torch.tensor([0.1, -1, 2])
    parts = Independent(Normal(prior.mean, prior.log_scale.exp()), 1).log_prob(z[:, None]).exp()
    expected = (parts * prior.logits.softmax(0)).sum(1).log()
    torch.testing.assert_close(prior(Encoder()).log_prob(z), expected)


def test_vamp_is_the_mean_of_the_posteriors_of_its_pseudo_inputs(float64: None) -> None:
    encode, prior, z = Encoder(), Vamp(2, SHAPE, components=5), torch.randn(7, 2)
    parts = [encode(u[None]).log_prob(z).exp() for u in prior.pseudo_inputs]
    torch.testing.assert_close(prior(encode).log_prob(z), torch.stack(parts).mean(0).log())


def test_vamp_of_a_flow_posterior_is_their_mean_too(float64: None) -> None:
    posterior = FlowPosterior(6, 2, kind="coupling", hidden_sizes=[8])
    prior, z = Vamp(2, SHAPE, components=5), torch.randn(3, 7, 2)
    encode = lambda x: posterior(x.flatten(1))  # noqa: E731
    parts = [encode(u[None]).log_prob(z.unsqueeze(-2)).squeeze(-1).exp() for u in prior.pseudo_inputs]
    torch.testing.assert_close(prior(encode).log_prob(z), torch.stack(parts).mean(0).log())


def test_vamp_starts_from_images_and_does_not_hold_the_encoder() -> None:
    prior, images = Vamp(2, SHAPE, components=5), torch.rand(9, *SHAPE)
    prior.start_from_images(images)
    torch.testing.assert_close(prior.pseudo_inputs.data, images[:5])
    assert [name for name, _ in prior.named_parameters()] == ["pseudo_inputs"]


def test_vamp_with_more_components_than_images_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"prior\.components=5: must be at most the 4 training images"):
        Vamp(2, SHAPE, components=5).start_from_images(torch.rand(4, *SHAPE))


@pytest.mark.parametrize("prior", [GaussianMixture, Vamp])
def test_no_components_are_refused(prior: type[nn.Module]) -> None:
    with pytest.raises(ConfigError, match=r"prior\.components=0"):
        prior(2, SHAPE, components=0)
