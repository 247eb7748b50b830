"""The composed model against the exact marginal likelihood of the linear-Gaussian VAE."""

import math

import pytest
import torch

from drawn import drawn
from linear_gaussian import SHAPE, SIGMA, decoder_weights, exact_log_px, linear_model, make_posterior_exact
from vae.checks import ConfigError
from vae.objective.elbo import ELBO


@pytest.fixture
def x(float64: None) -> torch.Tensor:
    return torch.rand(7, *SHAPE)


def test_elbo_is_below_the_exact_log_likelihood(x: torch.Tensor) -> None:
    model = linear_model()
    bound = model.elbo(x, k=20_000)
    assert (bound < exact_log_px(model, x)).all()


def test_elbo_equals_it_where_q_is_the_exact_posterior(x: torch.Tensor) -> None:
    model = linear_model()
    make_posterior_exact(model)
    q = model.encode(x)
    terms = drawn(model, x, 3, q)
    exact = exact_log_px(model, x)
    # With the exact posterior every single weight is p(x), whatever z was drawn.
    torch.testing.assert_close(terms.log_w, exact.expand(3, -1), atol=1e-5, rtol=0)
    torch.testing.assert_close(terms.iwae_bound, exact, atol=1e-5, rtol=0)


def test_elbo_with_analytic_kl_has_the_closed_form_expectation(x: torch.Tensor) -> None:
    """E_q ‖x − Wz − b‖² = ‖x − Wμ − b‖² + Σ_d σ_d² ‖W_d‖²: the bound without any draw."""
    model = linear_model()
    weight, bias = decoder_weights(model)
    q = model.encode(x)
    squared = (x.flatten(1) - q.mean @ weight.T - bias).square().sum(1) + q.variance @ weight.square().sum(0)
    distortion = squared / (2 * SIGMA**2) + 6 * math.log(SIGMA * math.sqrt(2 * math.pi))
    kl = 0.5 * (q.mean.square() + q.variance - 1 - q.variance.log()).sum(1)
    k = 100_000
    terms = drawn(model, x, k, q)
    stderr = terms.log_px_z.std(0) / k**0.5
    assert ((terms.elbo + distortion + kl).abs() < 4.5 * stderr).all()


def test_bounds_rise_with_k_towards_the_exact_value(x: torch.Tensor) -> None:
    model = linear_model()
    exact = exact_log_px(model, x).mean()
    bounds = [drawn(model, x.repeat(2000, 1, 1, 1), k) for k in (1, 5, 50)]
    means = [terms.iwae_bound.mean() for terms in bounds]
    assert means[0] < means[1] < means[2] < exact + 0.01


@pytest.mark.parametrize("k", [1, 7, 250])
def test_log_marginal_takes_exactly_k_draws_in_chunks(x: torch.Tensor, k: int) -> None:
    model = linear_model()
    torch.manual_seed(3)
    chunked = model.log_marginal(x, k, chunk=100).log_px
    torch.manual_seed(3)
    q = model.encode(x)
    # Chunks end where the value is noted, too: at 1, 10, 100, …
    sizes = {1: [1], 7: [1, 6], 250: [1, 9, 90, 100, 50]}[k]
    parts = [drawn(model, x, n, q).log_w for n in sizes]
    expected = torch.cat(parts).logsumexp(0) - math.log(k)
    torch.testing.assert_close(chunked, expected)


def test_log_marginal_reaches_the_exact_value(x: torch.Tensor) -> None:
    model = linear_model()
    estimate = model.log_marginal(x, k=20_000)
    assert ((estimate.log_px - exact_log_px(model, x)).abs() < 0.05).all()
    assert ((estimate.ess > 1) & (estimate.ess < 20_000)).all()


def test_ess_is_k_where_q_is_the_exact_posterior(x: torch.Tensor) -> None:
    model = linear_model()
    make_posterior_exact(model)
    torch.testing.assert_close(model.log_marginal(x, k=300).ess, torch.full((7,), 300.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("kl", ["analytic", "monte_carlo"])
def test_gradients_of_the_elbo_are_the_closed_forms(x: torch.Tensor, kl: str) -> None:
    """∇W, by hand: E_q of (Wz + b − x) zᵀ / σ², from the same draws."""
    model = linear_model()
    weight, bias = decoder_weights(model)
    objective = ELBO(k=3, kl=kl)
    torch.manual_seed(5)
    loss = objective(drawn(model, x, 3), step=0)
    gradient = torch.autograd.grad(loss, weight)[0]
    torch.manual_seed(5)
    z = model.encode(x).rsample(torch.Size((3,)))
    residuals = z @ weight.T + bias - x.flatten(1)
    by_hand = torch.einsum("kbp,kbd->pd", residuals, z) / (3 * len(x) * SIGMA**2)
    torch.testing.assert_close(gradient, by_hand, atol=1e-6, rtol=1e-6)


def test_encoder_gradient_of_the_analytic_kl_is_the_closed_form(x: torch.Tensor) -> None:
    """∂KL/∂μ = μ and ∂KL/∂ln σ = σ² − 1."""
    model = linear_model()
    q = model.encode(x)
    mean, log_scale = q.base_dist.loc, q.base_dist.log_scale
    kl = drawn(model, x, 1, q).kl
    d_mean, d_log_scale = torch.autograd.grad(kl.sum(), (mean, log_scale))
    torch.testing.assert_close(d_mean, mean)
    torch.testing.assert_close(d_log_scale, (2 * log_scale).exp() - 1)


def test_k_one_iwae_bound_equals_the_sampled_elbo(x: torch.Tensor) -> None:
    model = linear_model()
    terms = drawn(model, x, 1)
    torch.testing.assert_close(terms.iwae_bound, -(terms.distortion + terms.sampled_rate))


def test_beta_weights_the_kl_only(x: torch.Tensor) -> None:
    model = linear_model()
    terms = drawn(model, x, 2)
    torch.testing.assert_close(ELBO(k=2, beta=4)(terms, 0), (terms.distortion + 4 * terms.kl).mean())


def test_every_parameter_gets_a_gradient(x: torch.Tensor) -> None:
    model = linear_model()
    ELBO()(drawn(model, x, 1), 0).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("images", [1, 3])
@pytest.mark.parametrize("latent_size", [1, 4])
def test_shapes_of_samples_and_reconstructions(images: int, latent_size: int) -> None:
    model = linear_model(latent_size)
    assert model.sample(images).shape == (images, *SHAPE)
    assert model.reconstruct(torch.rand(images, *SHAPE)).shape == (images, *SHAPE)
    assert model.elbo(torch.rand(images, *SHAPE)).shape == (images,)


@pytest.mark.parametrize("size", [0, -1])
def test_impossible_latent_size_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="latent_size="):
        linear_model(size)


def test_impossible_k_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"objective\.k=0"):
        ELBO(k=0)
    with pytest.raises(ConfigError, match="k=0"):
        linear_model().log_marginal(torch.rand(1, *SHAPE), k=0)
