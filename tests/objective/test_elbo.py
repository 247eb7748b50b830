"""Free bits, the target rate, and the reconstruction alone."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from drawn import drawn
from linear_gaussian import SHAPE, linear_model
from vae.bound.terms import Terms
from vae.checks import ConfigError
from vae.objective.elbo import ELBO
from vae.objective.reconstruction import Reconstruction
from vae.objective.schedule import Linear
from vae.objective.target_rate import TargetRate


@pytest.mark.parametrize("kl", ["analytic", "monte_carlo"])
def test_latent_kls_add_up_to_the_kl(kl: str) -> None:
    model, x = linear_model(), torch.rand(4, *SHAPE)
    terms = drawn(model, x, 3)
    expected = terms.kl if kl == "analytic" else terms.sampled_rate
    torch.testing.assert_close(terms.latent_kl(kl == "analytic").sum(1), expected)


def test_free_bits_hold_each_latent_at_its_minimum() -> None:
    latent_kl = torch.tensor([[0.1, 2.0, 0.4], [0.3, 4.0, 0.6]])  # means 0.2, 3 and 0.5
    mean = (2 * latent_kl).sqrt()  # KL(N(μ, 1)‖N(0, 1)) = ½ μ²
    q, p = (Independent(Normal(m, torch.ones_like(m)), 1) for m in (mean, torch.zeros(3)))
    objective = ELBO(free_bits=0.5, beta=2.0)
    assert objective(Terms(-torch.ones(1, 2), None, q, p), 0).item() == pytest.approx(1 + 2 * (0.5 + 3 + 0.5))


def test_free_bits_of_zero_change_nothing() -> None:
    model, x = linear_model(), torch.rand(4, *SHAPE)
    terms = drawn(model, x, 1)
    torch.testing.assert_close(ELBO(free_bits=1e-12)(terms, 0), ELBO()(terms, 0))


def test_free_bits_give_no_gradient_below_the_minimum() -> None:
    model, x = linear_model(), torch.rand(4, *SHAPE)
    objective = ELBO(free_bits=1e6)
    terms = drawn(model, x, 1)
    loss = objective(terms, 0) - terms.distortion.mean()
    grads = torch.autograd.grad(loss, list(model.posterior.parameters()))
    assert all((g == 0).all() for g in grads)


def _terms(rate: Tensor) -> Terms:
    q = Independent(Normal(torch.zeros(3, 1), torch.ones(3, 1)), 1)
    return Terms(-torch.ones(1, 3), None, q, q, known={"kl": rate.expand(3)})


def _step(objective: ELBO, rate: Tensor) -> float:
    """What a training step does: the loss, then whatever the objective adapts."""
    terms = _terms(rate)
    loss = objective(terms, 0)
    objective.after_step(objective.rate(terms))
    return loss.item()


def test_target_rate_is_met_by_a_rate_that_falls_with_beta() -> None:
    """The rate of a Gaussian channel, ½ ln(1 + s/β), has the target at a known β."""
    objective = ELBO(beta=TargetRate(target_rate=2.0, speed=0.05))
    for step in range(2000):
        beta = objective.beta(step)
        assert isinstance(beta, Tensor)
        _step(objective, 0.5 * torch.log1p(100 / beta))
    expected = 100 / (torch.tensor(4.0).exp() - 1)
    torch.testing.assert_close(objective.numbers(0)["beta"], expected.item(), rtol=1e-2, atol=0)


def test_target_rate_adapts_after_training_steps_only_and_is_in_the_checkpoint() -> None:
    objective = ELBO(beta=TargetRate(target_rate=2.0, speed=0.1))
    objective(_terms(torch.tensor(10.0)), 0)
    assert objective.numbers(0)["beta"] == pytest.approx(1.0)
    assert _step(objective, torch.tensor(10.0)) == pytest.approx(1 + 10 * 1.0)
    beta = objective.numbers(0)["beta"]
    assert beta == pytest.approx(torch.tensor(0.1).exp().item())
    assert _step(objective, torch.tensor(10.0)) == pytest.approx(1 + 10 * beta)
    beta = objective.numbers(0)["beta"]
    restored = ELBO(beta=TargetRate(target_rate=2.0))
    restored.load_state_dict(objective.state_dict())
    assert restored.numbers(0)["beta"] == pytest.approx(beta)


def test_target_rate_keeps_beta_within_its_bounds() -> None:
    objective = ELBO(beta=TargetRate(target_rate=2.0, speed=5, min_beta=0.5, max_beta=4))
    _step(objective, torch.tensor(100.0))
    assert objective.numbers(0)["beta"] == pytest.approx(4)
    for _ in range(3):
        _step(objective, torch.tensor(0.0))
    assert objective.numbers(0)["beta"] == pytest.approx(0.5)


@pytest.mark.parametrize("rate", [float("inf"), float("-inf"), float("nan")])
def test_a_rate_that_is_not_finite_does_not_move_beta(rate: float) -> None:
    objective = ELBO(beta=TargetRate(target_rate=2.0, speed=0.1))
    _step(objective, torch.tensor(rate))
    assert objective.numbers(0)["beta"] == pytest.approx(1.0)


def test_beta_is_reported_where_it_changes() -> None:
    assert ELBO(beta=4).numbers(7) == {}
    assert ELBO(beta=Linear(steps=10))(_terms(torch.tensor(1.0)), 5).item() == pytest.approx(1.5)
    assert ELBO(beta=Linear(steps=10)).numbers(5) == {"beta": 0.5}


def test_reconstruction_is_the_distortion() -> None:
    model, x = linear_model(), torch.rand(4, *SHAPE)
    terms = drawn(model, x, 3)
    torch.testing.assert_close(Reconstruction(k=3)(terms, 0), terms.distortion.mean())


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"target_rate": 0}, "target_rate"),
        ({"target_rate": 1, "speed": 0}, "speed"),
        ({"target_rate": 1, "start": 0}, "start"),
    ],
)
def test_impossible_controllers_are_refused(options: dict, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"objective\.beta\.{key}=0"):
        TargetRate(**options)


def test_impossible_free_bits_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"objective\.free_bits=-1"):
        ELBO(free_bits=-1)
