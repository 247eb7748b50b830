"""Posteriors: their densities, draws, means and closed-form KLs."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal, kl_divergence

from vae.bound.terms import Terms, analytic_kl
from vae.checks import ConfigError
from vae.posterior.delta import Delta
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.posterior.flow import FlowPosterior
from vae.posterior.full_gaussian import FullGaussian
from vae.posterior.posterior import Posterior
from vae.prior.standard_normal import StandardNormal

B, F, D = 4, 7, 3
DENSITIES = {
    "diagonal_gaussian": DiagonalGaussian,
    "full_gaussian": FullGaussian,
    "autoregressive": FlowPosterior,
    "coupling": partial(FlowPosterior, kind="coupling"),
}


def _scrambled(posterior: Posterior, by: float = 0.3) -> Posterior:
    """With weights large enough that nothing is near its start."""
    with torch.no_grad():
        for parameter in posterior.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return posterior


def _drawn(posterior: Posterior, features: Tensor, k: int) -> tuple[Distribution, Tensor]:
    """q(z|x), and k draws from noise, as the model makes them."""
    q = posterior(features)
    return q, posterior.draw(q, posterior.noise(k, len(features)))


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("latent_size", [1, D])
def test_log_density_of_draws_equals_that_evaluated_separately(name: str, latent_size: int, float64: None) -> None:
    q, z = _drawn(_scrambled(DENSITIES[name](F, latent_size)), torch.randn(B, F), 5)
    assert z.shape == (5, B, latent_size)
    # Of a flow, the latest draw's density came with it; that of a copy is worked out by the inverse.
    torch.testing.assert_close(q.log_prob(z), q.log_prob(z.clone()), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("name", [*DENSITIES, "delta"])
def test_draws_are_a_function_of_noise_and_equal_the_distributions_own(name: str) -> None:
    posterior, features = _scrambled((DENSITIES | {"delta": Delta})[name](F, D)), torch.randn(B, F)
    torch.manual_seed(4)
    q, z = _drawn(posterior, features, 6)
    torch.manual_seed(4)
    torch.testing.assert_close(posterior(features).rsample(torch.Size((6,))), z)
    noise = posterior.noise(6, B)
    parts = [posterior.draw(q, part) for part in noise.split(4)]
    torch.testing.assert_close(torch.cat(parts), posterior.draw(q, noise))


@pytest.mark.parametrize("name", DENSITIES)
def test_density_integrates_to_one(name: str, float64: None) -> None:
    # By 0.3 a flow's peaks are too narrow for the grid, with most draws of its weights.
    q = _scrambled(DENSITIES[name](F, 2), by=0.1)(0.5 * torch.randn(1, F))
    center, width = q.sample(torch.Size((5000,))).mean(0), q.sample(torch.Size((5000,))).std(0)
    side = torch.linspace(-12, 12, 151)
    z = center + width * torch.cartesian_prod(side, side)[:, None]
    cell = (24 / 150) ** 2 * width.prod()
    total = q.log_prob(z).exp().sum() * cell
    assert total.item() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("name", DENSITIES)
def test_mean_is_that_of_the_draws(name: str) -> None:
    q = _scrambled(DENSITIES[name](F, D))(0.5 * torch.randn(B, F))
    draws = q.sample(torch.Size((20_000,)))
    # That of a flow is an average of 64 antithetic draws.
    error = 0.3 if name in ("autoregressive", "coupling") else 0.04
    assert ((draws.mean(0) - q.mean).abs() < error * draws.std(0)).all()


@pytest.mark.parametrize("name", DENSITIES)
def test_every_parameter_gets_a_gradient_through_the_draws(name: str) -> None:
    posterior = DENSITIES[name](F, D)
    q, z = _drawn(posterior, torch.randn(B, F), 2)
    (z.square().sum() + q.log_prob(z).sum()).backward()
    for parameter, value in posterior.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.isfinite().all(), parameter
        assert value.grad.abs().sum() > 0, parameter


def test_flow_log_density_is_the_change_of_variables(float64: None) -> None:
    """ln |det| is that of autograd's Jacobian."""
    posterior = _scrambled(FlowPosterior(F, D))
    features = torch.randn(1, F)
    q = posterior(features)
    noise = torch.randn(D)
    z = q.transform.inv(noise[None])
    jacobian = torch.autograd.functional.jacobian(lambda e: q.transform.inv(e[None])[0], noise)
    expected = q.base.log_prob(noise[None]) - torch.linalg.slogdet(jacobian)[1]
    torch.testing.assert_close(q.log_prob(z), expected)


def test_full_gaussian_equals_torch_and_its_kl_the_closed_form(float64: None) -> None:
    q = _scrambled(FullGaussian(F, D))(torch.randn(B, F))
    covariance = q.scale_tril @ q.scale_tril.mT
    theirs = MultivariateNormal(q.loc, covariance)
    z = torch.randn(5, B, D)
    torch.testing.assert_close(q.log_prob(z), theirs.log_prob(z))
    p_mean, p_scale = torch.randn(D), torch.rand(D) + 0.5
    p = Independent(Normal(p_mean, p_scale), 1)
    expected = kl_divergence(theirs, MultivariateNormal(p_mean, torch.diag(p_scale.square())))
    torch.testing.assert_close(analytic_kl(q, p), expected)
    assert (q.scale_tril.triu(1) == 0).all()
    assert (q.scale_tril.tril(-1) != 0).sum() == B * D * (D - 1) // 2


def test_full_gaussian_kl_equals_its_monte_carlo_estimate() -> None:
    q, z = _drawn(FullGaussian(F, D), torch.randn(B, F), 100_000)
    p = StandardNormal(D, (1, 2, 2))(lambda x: x)
    ratio, kl = q.log_prob(z) - p.log_prob(z), analytic_kl(q, p)
    assert ((ratio.mean(0) - kl).abs() < 4.5 * ratio.std(0) / 100_000**0.5).all()


def test_flow_has_no_closed_form_kl() -> None:
    q, p = FlowPosterior(F, D)(torch.randn(B, F)), StandardNormal(D, (1, 2, 2))(lambda x: x)
    with pytest.raises(ConfigError, match=r"objective\.kl=analytic: .*use objective\.kl=monte_carlo"):
        analytic_kl(q, p)
    z = q.rsample(torch.Size((4,)))
    terms = Terms(torch.zeros(4, B), z, q, p)
    torch.testing.assert_close(terms.rate, (q.log_prob(z) - p.log_prob(z)).mean(0))


def test_delta_is_a_point() -> None:
    q = Delta(F, D)(torch.randn(B, F))
    z = q.rsample(torch.Size((3,)))
    assert z.shape == (3, B, D)
    assert (z == q.mean).all()
    assert z.requires_grad
    assert (q.log_prob(z) == torch.inf).all()
    assert (q.log_prob(z + 1) == -torch.inf).all()


@pytest.mark.parametrize("name", DENSITIES)
def test_path_gradient_is_the_total_without_the_score(name: str, float64: None) -> None:
    """∂/∂z log q(z) · ∂z/∂φ, by the density's gradient at z; and its mean under q is the total's."""
    posterior = _scrambled(DENSITIES[name](F, D))
    parameters = list(posterior.parameters())
    features = torch.randn(1, F)

    def gradient(output: Tensor) -> Tensor:
        grads = torch.autograd.grad(
            output, parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([g.flatten() for g in grads])

    q, z = _drawn(posterior, features, 3)
    terms = Terms(torch.zeros(z.shape[:2]), z, q, q)
    log_qz, path = terms.log_qz, terms.log_qz_path
    torch.testing.assert_close(path, log_qz)
    constant = z.detach().requires_grad_()
    slope = torch.autograd.grad(q.log_prob(constant).sum(), constant)[0]
    torch.testing.assert_close(gradient(path.sum()), gradient((slope * z).sum()), atol=1e-7, rtol=1e-6)
    assert not torch.allclose(gradient(path.sum()), gradient(log_qz.sum()), atol=1e-3)


@pytest.mark.parametrize("options", [{"kind": "spline"}, {"transforms": 0}, {"hidden_sizes": [0]}])
def test_impossible_flows_are_refused(options: dict[str, object]) -> None:
    (key,) = options
    with pytest.raises(ConfigError, match=rf"posterior\.{key}="):
        FlowPosterior(F, D, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("constructor", [DiagonalGaussian, FullGaussian, FlowPosterior])
def test_sigma_starts_about_where_it_is_to(constructor: type[nn.Module], float64: None) -> None:
    """To the flow its draws are what the base's are to the others: it is asked for the base."""
    plain, narrow = constructor(F, D), constructor(F, D, init_sigma=0.05)
    narrow.load_state_dict(plain.state_dict())
    features = torch.randn(B, F)
    qs = [posterior(features) for posterior in (plain, narrow)]
    of_noise = [q.base if constructor is FlowPosterior else q for q in qs]
    draws = []
    for q in of_noise:
        torch.manual_seed(3)
        draws.append(q.sample(torch.Size((4,))) - q.mean)
    torch.testing.assert_close(draws[1], 0.05 * draws[0])
    torch.testing.assert_close(of_noise[0].mean, of_noise[1].mean)


@pytest.mark.parametrize("constructor", [DiagonalGaussian, FullGaussian, FlowPosterior])
@pytest.mark.parametrize("sigma", [0, -1])
def test_no_such_start(constructor: type[nn.Module], sigma: float) -> None:
    with pytest.raises(ConfigError, match=f"posterior.init_sigma={sigma}: must be a number above 0"):
        constructor(F, D, init_sigma=sigma)
