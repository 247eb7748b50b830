"""IWAE, MIWAE and CIWAE, and the three gradients, against exact values and each other."""

import math

import pytest
import torch
from torch import Tensor

from drawn import drawn, loss_of
from linear_gaussian import SHAPE, exact_log_px, linear_model, make_posterior_exact
from vae.checks import ConfigError
from vae.model import LatentModel
from vae.objective.elbo import ELBO
from vae.objective.iwae import IWAE
from vae.objective.objective import Objective


@pytest.fixture
def x(float64: None) -> Tensor:
    return torch.rand(4, *SHAPE)


def gradient(objective: Objective, model: LatentModel, x: Tensor, encoder: bool) -> Tensor:
    """Of the loss, by the posterior's parameters or by the decoder's."""
    part = model.posterior if encoder else model.decoder
    grads = torch.autograd.grad(loss_of(objective, model, x), list(part.parameters()))
    return torch.cat([g.flatten() for g in grads])


def gradients(objective: Objective, model: LatentModel, x: Tensor) -> Tensor:
    """50 independent draws of the encoder's, each the mean of 100 draws."""
    many = x.repeat(100, 1, 1, 1)
    return torch.stack([gradient(objective, model, many, True) for _ in range(50)])


def standard_errors(first: Tensor, second: Tensor) -> Tensor:
    """By how many standard errors the means of two sets of gradients differ."""
    return (first.mean(0) - second.mean(0)).abs() / ((first.var(0) + second.var(0)) / len(first)).sqrt()


@pytest.mark.parametrize("style", ["standard", "stl", "dreg"])
def test_loss_is_the_bound_whatever_the_gradient(style: str, x: Tensor) -> None:
    model, k = linear_model(), 6
    torch.manual_seed(2)
    loss = loss_of(IWAE(k, style), model, x)
    torch.manual_seed(2)
    terms = drawn(model, x, k)
    by_hand = torch.stack([w.exp().mean().log() for w in terms.log_w.T])
    torch.testing.assert_close(loss, -by_hand.mean())
    torch.testing.assert_close(terms.iwae_bound, by_hand)


def test_k_one_equals_the_elbo_with_a_sampled_kl(x: Tensor) -> None:
    model = linear_model()
    torch.manual_seed(2)
    iwae = loss_of(IWAE(1), model, x)
    torch.manual_seed(2)
    torch.testing.assert_close(iwae, loss_of(ELBO(1, kl="monte_carlo"), model, x))


def test_miwae_with_k_one_is_the_elbo_and_with_outer_one_iwae(x: Tensor) -> None:
    model = linear_model()
    terms = drawn(model, x, 6)
    torch.testing.assert_close(IWAE(k=1, outer=6)(terms, 0), -terms.log_w.mean())
    torch.testing.assert_close(IWAE(k=6, outer=1)(terms, 0), -terms.iwae_bound.mean())
    halves = [w.logsumexp(0) - math.log(3) for w in terms.log_w.split(3)]
    torch.testing.assert_close(IWAE(k=3, outer=2)(terms, 0), -torch.stack(halves).mean())


def test_ciwae_mixes_the_two(x: Tensor) -> None:
    model = linear_model()
    terms = drawn(model, x, 6)
    mixed = 0.7 * terms.iwae_bound + 0.3 * terms.log_w.mean(0)
    torch.testing.assert_close(IWAE(k=6, elbo_weight=0.3)(terms, 0), -mixed.mean())
    torch.testing.assert_close(IWAE(k=6, elbo_weight=1)(terms, 0), -terms.log_w.mean())


def test_bounds_rise_with_k_and_stay_below_the_exact_value(x: Tensor) -> None:
    model, many = linear_model(), x.repeat(1000, 1, 1, 1)
    losses = [loss_of(IWAE(k), model, many).item() for k in (1, 5, 50)]
    assert losses[0] > losses[1] > losses[2] > -exact_log_px(model, x).mean().item() - 0.01


@pytest.mark.parametrize(
    ("style", "options"),
    [
        ("stl", {"k": 1}),
        ("stl", {"k": 1, "outer": 3}),
        ("dreg", {"k": 1}),
        ("dreg", {"k": 4}),
        ("dreg", {"k": 3, "outer": 2, "elbo_weight": 0.3}),
    ],
)
def test_estimators_are_unbiased_for_the_standard_gradient(style: str, options: dict, x: Tensor) -> None:
    model = linear_model()
    standard = gradients(IWAE(gradient="standard", **options), model, x)
    assert standard_errors(standard, gradients(IWAE(gradient=style, **options), model, x)).max() < 5


def test_stl_is_biased_for_k_above_one(x: Tensor) -> None:
    """As Tucker et al. 2019 show; a test that cannot see this could not see a bias of the others either."""
    model = linear_model()
    assert standard_errors(gradients(IWAE(8), model, x), gradients(IWAE(8, "stl"), model, x)).max() > 8


@pytest.mark.parametrize("style", ["stl", "dreg"])
def test_decoder_gradient_is_the_standard_one(style: str, x: Tensor) -> None:
    model = linear_model()
    torch.manual_seed(3)
    standard = gradient(IWAE(5), model, x, False)
    torch.manual_seed(3)
    torch.testing.assert_close(gradient(IWAE(5, style), model, x, False), standard)


def test_dreg_is_the_sum_of_squared_weights_times_path_gradients(x: Tensor) -> None:
    """Tucker et al. 2019, equation 7, by hand: Σ_k w̃_k² ∂ log w_k/∂z_k · ∂z_k/∂φ."""
    model, k = linear_model(), 5
    torch.manual_seed(3)
    ours = gradient(IWAE(k, "dreg"), model, x, True)
    torch.manual_seed(3)
    q = model.encode(x)
    z = q.rsample(torch.Size((k,)))
    constant = z.detach().requires_grad_()
    log_w = model.decode(constant).log_prob(x) + model.p_z().log_prob(constant) - q.log_prob(constant)
    slope = torch.autograd.grad(log_w.sum(), constant, retain_graph=True)[0]
    squared = log_w.detach().softmax(0).square().unsqueeze(-1)
    grads = torch.autograd.grad(-(squared * slope * z).sum() / len(x), list(model.posterior.parameters()))
    torch.testing.assert_close(ours, torch.cat([g.flatten() for g in grads]))


def test_dreg_has_a_lower_variance_than_standard(x: Tensor) -> None:
    model = linear_model()
    standard = gradients(IWAE(20), model, x).var(0).sum()
    assert gradients(IWAE(20, "dreg"), model, x).var(0).sum() < 0.5 * standard


@pytest.mark.parametrize("style", ["stl", "dreg"])
@pytest.mark.parametrize("k", [1, 4])
def test_variance_is_zero_at_the_exact_posterior(style: str, k: int, x: Tensor) -> None:
    model = linear_model()
    make_posterior_exact(model)
    assert gradient(IWAE(k, style), model, x, True).abs().max() < 1e-5
    assert gradient(IWAE(k), model, x, True).abs().max() > 1e-2


@pytest.mark.parametrize("style", ["standard", "stl", "dreg"])
def test_weights_that_underflow_give_finite_gradients(style: str) -> None:
    model, x = linear_model(), torch.rand(4, *SHAPE)
    model.decoder.output.weight.data.mul_(100)
    assert (drawn(model, x, 50).log_w.softmax(0) == 0).any()
    assert gradient(IWAE(50, style), model, x, True).isfinite().all()


@pytest.mark.parametrize(
    "options", [{"gradient": "vimco"}, {"k": 0}, {"outer": 0}, {"elbo_weight": 2}, {"chunk": 0}]
)
def test_impossible_options_are_refused(options: dict) -> None:
    (key,) = options
    with pytest.raises(ConfigError, match=rf"objective\.{key}="):
        IWAE(**options)
