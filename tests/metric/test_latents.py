"""What is said of the latents: against closed forms, integrals on a grid, and models built for it."""

import math
from typing import Any

import pytest
import torch
from lightning import Trainer
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from linear_gaussian import SHAPE, linear_model
from metric.evaluations import measured, sizes_of
from vae.bound.importance import LogMarginal
from vae.metric.active_units import ActiveUnits, collapse_warning
from vae.metric.aggregate_posterior import AggregatePosterior
from vae.metric.bound import Bound
from vae.metric.nll import NLL, planned_images, quick_k
from vae.metric.probe import Probe
from vae.metric.rate_per_latent import RatePerLatent, mean_rates
from vae.model import LatentModel


def model_with_live_latents(live: int, size: int) -> LatentModel:
    """μ_d(x) = 3·pixel_d for the first `live` latents; the others are the prior for every image."""
    model = linear_model(size)
    layer = model.posterior.mean_and_log_scale
    with torch.no_grad():
        layer.weight.zero_()
        layer.bias.zero_()
        layer.weight[:live, :live] = 3 * torch.eye(live)
        layer.bias[size : size + live] = math.log(0.3)
    return model


def test_exactly_the_live_latents_are_active(float64: None) -> None:
    model = model_with_live_latents(3, 5)
    values = measured(ActiveUnits(sizes_of(model)), model, torch.rand(100, *SHAPE), 30)
    assert values["active_units"] == 3
    # Var(3u) of u uniform in [0, 1] is 9/12.
    torch.testing.assert_close(values["posterior_mean_variance"][:3], torch.full((3,), 0.75), atol=0.25, rtol=0)
    assert (values["posterior_mean_variance"][3:] == 0).all()


def test_rates_of_the_latents_add_up_to_the_rate(float64: None) -> None:
    model, x = model_with_live_latents(3, 5), torch.rand(50, *SHAPE)
    rates = measured(RatePerLatent(sizes_of(model)), model, x, 20)["rate_per_latent"]
    torch.testing.assert_close(rates.sum(), measured(Bound(sizes_of(model)), model, x, 20)["rate"])
    q = model.encode(x)
    by_hand = kl_divergence(q.base_dist, Normal(0.0, 1.0)).mean(0)
    torch.testing.assert_close(rates, by_hand)
    assert (rates[3:] == 0).all()


def exact_parts(mean: torch.Tensor, scale: torch.Tensor) -> tuple[float, float]:
    """I(x; z) and KL(q(z)‖N(0, 1)) of a mixture of N one-dimensional Gaussians, by integration on a grid."""
    grid = torch.linspace(-12, 12, 20_001)
    densities = Normal(mean[:, None], scale[:, None]).log_prob(grid)  # (N, grid)
    log_q = densities.logsumexp(0) - math.log(len(mean))
    step = grid[1] - grid[0]
    information = (densities.exp() * (densities - log_q)).sum(1).mean() * step
    divergence = (log_q.exp() * (log_q - Normal(0.0, 1.0).log_prob(grid))).sum() * step
    return float(information), float(divergence)


@pytest.mark.parametrize("exact_below", [20_000, 0])
def test_mutual_information_and_marginal_kl_equal_integrals_on_a_grid(float64: None, exact_below: int) -> None:
    model = model_with_live_latents(1, 1)
    x = torch.rand(12, *SHAPE)
    with torch.no_grad():
        q = model.encode(x).base_dist
    information, divergence = exact_parts(q.loc[:, 0], q.scale[:, 0])
    # Many copies of the same 12 images have the same q(z), so that there are enough draws for a comparison.
    values = measured(
        AggregatePosterior(sizes_of(model), exact_below),
        model,
        x.repeat(200, 1, 1, 1),
        2400 if exact_below else 1200,
    )
    assert values["mutual_information_exact"] == (exact_below > 0)
    assert values["marginal_kl"] == pytest.approx(divergence, abs=4 * float(values["marginal_kl_stderr"]))
    error = 4 * float(values["mutual_information_stderr"]) if exact_below else 0.06  # the estimate is biased
    assert values["mutual_information"] == pytest.approx(information, abs=error)


def test_the_two_parts_add_up_to_the_sampled_rate(float64: None) -> None:
    model, x = model_with_live_latents(3, 5), torch.rand(300, *SHAPE)
    parts = measured(AggregatePosterior(sizes_of(model)), model, x, 100)
    rate = measured(Bound(sizes_of(model)), model, x, 100)["rate"]
    assert parts["mutual_information"] + parts["marginal_kl"] == pytest.approx(float(rate), abs=0.5)
    assert parts["mutual_information"] < math.log(300)


def test_a_collapsed_posterior_carries_no_information(float64: None) -> None:
    model, x = model_with_live_latents(0, 4), torch.rand(40, *SHAPE)
    for exact_below in (0, 100):
        parts = measured(AggregatePosterior(sizes_of(model), exact_below), model, x, 20)
        assert parts["mutual_information"] == pytest.approx(0, abs=1e-6)
        assert parts["marginal_kl"] == pytest.approx(0, abs=1e-6)


def test_a_single_image_in_the_last_batch_does_no_harm(float64: None) -> None:
    model = model_with_live_latents(2, 3)
    parts = measured(AggregatePosterior(sizes_of(model)), model, torch.rand(21, *SHAPE), 20)
    assert all(value.isfinite() for value in parts.values())


def test_nll_is_the_mean_with_the_standard_error_over_images(float64: None) -> None:
    model, x = linear_model(), torch.rand(25, *SHAPE)
    metric = NLL(sizes_of(model), k=20)
    values = measured(metric, model, x, 10)
    per_image = metric.rows("estimates")[:, -1]
    assert values["nll"] == pytest.approx(float(per_image.mean()))
    assert values["nll_stderr"] == pytest.approx(float(per_image.std()) / 5)
    assert {"nll_at_1", "nll_at_10"} <= set(values)
    assert values["nll_k"] == 20


def test_the_share_of_images_that_few_draws_carry(float64: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Below a tenth of the median ESS are 2 of 9 images."""
    model, ess = linear_model(), torch.tensor([50.0, 60, 5.4, 6.5, 70, 80, 1, 65, 55])
    ones = torch.ones(9)
    estimate = LogMarginal(-ones, 0 * ones, ess, ones, torch.zeros(9, 2), {1: -ones})
    monkeypatch.setattr(model, "log_marginal", lambda *_: estimate)
    values = measured(NLL(sizes_of(model), k=1), model, torch.rand(9, *SHAPE), 9)
    assert values["nll_poor"] == pytest.approx(2 / 9)
    assert values["nll_ess"] == pytest.approx(float(ess.mean()))


def test_labels_that_are_plain_in_the_latents_are_found() -> None:
    model = model_with_live_latents(1, 2)
    label = torch.arange(90) % 3
    x = torch.rand(90, *SHAPE) * 0.1
    x[:, 0, 0, 0] += label * 0.4
    values = measured(Probe(sizes_of(model)), model, x, 40, label)
    assert values["linear_probe_accuracy"] > 0.95
    assert values["knn_accuracy"] > 0.95


def test_labels_that_are_noise_are_not_found() -> None:
    model = model_with_live_latents(1, 2)
    values = measured(Probe(sizes_of(model)), model, torch.rand(300, *SHAPE), 100, torch.randint(0, 3, (300,)))
    assert values["linear_probe_accuracy"] < 0.45


def test_images_without_labels_have_no_probe() -> None:
    model = linear_model()
    assert measured(Probe(sizes_of(model)), model, torch.rand(20, *SHAPE), 10) == {}


def test_a_single_image_has_no_variance_and_so_no_active_units_and_no_collapse() -> None:
    model = model_with_live_latents(3, 5)
    assert measured(ActiveUnits(sizes_of(model)), model, torch.rand(1, *SHAPE), 1) == {}
    assert collapse_warning(None, 3.0) is None


def test_the_rate_of_each_latent_where_there_is_no_closed_form_is_that_of_its_moments() -> None:
    model, x = model_with_live_latents(3, 5), torch.rand(50, *SHAPE)
    q = model.encode(x)
    exact = mean_rates(model, q)
    torch.testing.assert_close(exact, kl_divergence(q.base_dist, Normal(0.0, 1.0)).mean(0))
    full = MultivariateNormal(q.mean, scale_tril=torch.diag_embed(q.stddev))
    torch.testing.assert_close(mean_rates(model, full), exact, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("trained", "tested", "k"),
    [
        (60 * 1216, 360, 100),  # the default run: at most a hundred
        (2 * 54_912, 10_000, 5),  # two epochs of MNIST
        (60 * 54_912, 10_000, 100),
        (1216, 360, 2),
        (100, 10_000, 1),
    ],
)
def test_the_quick_nll_costs_a_fifth_of_the_training_at_most(trained: int, tested: int, k: int) -> None:
    assert quick_k(trained, tested) == k
    assert k == 1 or tested * k <= 3 * trained / 5


@pytest.mark.parametrize(
    ("trainer", "seen"),
    [
        ({"max_epochs": 3}, 3 * 600),  # the last 11 images of an epoch make no batch
        ({"max_epochs": 3, "max_steps": 4}, 4 * 200),
        ({"max_epochs": -1, "max_steps": 4}, 4 * 200),
        ({"max_epochs": 3, "limit_train_batches": 2}, 3 * 400),
        ({"max_epochs": -1, "max_time": "00:00:10:00"}, None),
    ],
)
def test_the_draws_are_chosen_by_the_plan_and_not_by_the_clock(trainer: dict[str, Any], seen: int | None) -> None:
    planned = Trainer(**trainer, accelerator="cpu", logger=False, enable_checkpointing=False)
    assert planned_images(planned, images=611, batch_size=200) == seen


def test_a_metric_whose_draws_are_chosen_late_estimates_as_one_that_knew_them() -> None:
    model, x = model_with_live_latents(3, 5), torch.rand(8, *SHAPE)
    late, early = NLL(sizes_of(model), "auto"), NLL(sizes_of(model), 20)
    late._draw(20)
    assert measured(late, model, x, 4) == measured(early, model, x, 4)
    assert NLL(sizes_of(model), "auto").k == 100
