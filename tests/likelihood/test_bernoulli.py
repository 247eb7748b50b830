"""The Bernoulli likelihood is a probability over binary images."""

from itertools import product

import pytest
import scipy.stats
import torch
from torch.func import jacrev, vmap

from vae.likelihood.bernoulli import Bernoulli

SHAPE = (1, 2, 2)


def test_probabilities_of_all_images_sum_to_one(float64: None) -> None:
    images = torch.tensor(list(product((0.0, 1.0), repeat=4))).reshape(-1, *SHAPE)
    log_px = Bernoulli(SHAPE)(torch.randn(1, 1, *SHAPE)).log_prob(images)
    torch.testing.assert_close(log_px.logsumexp(-1), torch.zeros(1), atol=1e-6, rtol=0)


def test_log_probability_equals_scipy() -> None:
    logits, x = torch.randn(3, 5, *SHAPE), torch.randint(0, 2, (5, *SHAPE)).float()
    theirs = scipy.stats.bernoulli(logits.sigmoid().numpy()).logpmf(x.numpy()).sum((-3, -2, -1))
    torch.testing.assert_close(
        Bernoulli(SHAPE)(logits).log_prob(x), torch.from_numpy(theirs).float(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("shape", [(1, 2, 2), (1, 8, 8), (3, 5, 7), (1, 28, 28)])
def test_it_is_as_exact_as_the_sum_over_pixels(shape: tuple[int, int, int]) -> None:
    """Against the pixels' log-probabilities in double precision: sure and unsure, black, white and grey."""
    logits, x = 20 * torch.randn(6, 4, *shape), torch.rand(4, *shape)
    x[:2] = x[:2].round()
    logits[0] = 200 * logits[0].sign()
    before = logits.clone()
    quick = Bernoulli(shape)(logits).log_prob(x)
    pixels = torch.distributions.Bernoulli(logits=logits.double(), validate_args=False)
    exact = pixels.log_prob(x.double()).sum((-3, -2, -1))
    torch.testing.assert_close(quick, exact.float(), rtol=2e-6, atol=2e-6)
    assert torch.equal(logits, before)


def test_with_gradients_it_is_the_same() -> None:
    logits, x = torch.randn(3, 5, *SHAPE, requires_grad=True), torch.randint(0, 2, (5, *SHAPE)).float()
    log_px = Bernoulli(SHAPE)(logits).log_prob(x)
    torch.testing.assert_close(log_px.detach(), Bernoulli(SHAPE)(logits.detach()).log_prob(x))
    gradient = torch.autograd.grad(log_px.sum(), logits)[0]
    torch.testing.assert_close(gradient, x - logits.detach().sigmoid())


@pytest.mark.parametrize(("logits_of", "x_of"), [((3, 2), (2,)), ((), (2,)), ((2,), (2,)), ((2, 1), (3,))])
def test_gradients_to_both(logits_of: tuple[int, ...], x_of: tuple[int, ...], float64: None) -> None:
    """Against finite differences, with either side broadcast."""
    logits = torch.randn(*logits_of, 1, 2, 3, requires_grad=True)
    x = torch.rand(*x_of, 1, 2, 3, requires_grad=True)
    assert torch.autograd.gradcheck(lambda logits, x: Bernoulli((1, 2, 3))(logits).log_prob(x), (logits, x))


@pytest.mark.parametrize(("logits_of", "x_of"), [((3, 2), (2,)), ((), (2,)), ((2, 1), (3,))])
def test_second_derivatives(logits_of: tuple[int, ...], x_of: tuple[int, ...], float64: None) -> None:
    """Against finite differences of the gradient, and the Hessian −p (1 − p) by torch.func."""
    likelihood = Bernoulli((1, 2, 3))
    logits = torch.randn(*logits_of, 1, 2, 3, requires_grad=True)
    x = torch.rand(*x_of, 1, 2, 3, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda logits, x: likelihood(logits).log_prob(x), (logits, x))
    one, p = logits.detach().reshape(-1, 1, 2, 3)[0], logits.detach().sigmoid().flatten()[:6]
    hessian = jacrev(jacrev(lambda logits: likelihood(logits).log_prob(x[0].detach())))(one)
    torch.testing.assert_close(hessian.reshape(6, 6), torch.diag(-p * (1 - p)))


@pytest.mark.parametrize("axes", [(0, None), (1, 0), (None, 1), (3, 2)])
def test_mapped_it_is_one_more_axis_of_the_batch(axes: tuple[int | None, int | None], float64: None) -> None:
    logits, x = torch.randn(4, 3, 5, 1, 2, 3), torch.rand(4, 5, 1, 2, 3)
    given = [t[0] if axis is None else t.movedim(0, axis) for t, axis in zip((logits, x), axes, strict=True)]
    mapped = vmap(lambda logits, x: Bernoulli((1, 2, 3))(logits).log_prob(x), axes)(*given)
    one_by_one = [
        Bernoulli((1, 2, 3))(logits[0 if axes[0] is None else i]).log_prob(x[0 if axes[1] is None else i])
        for i in range(4)
    ]
    torch.testing.assert_close(mapped, torch.stack(one_by_one))


def test_shapes_broadcast() -> None:
    logits, x = torch.randn(*SHAPE), torch.randint(0, 2, (5, *SHAPE)).float()
    log_px = Bernoulli(SHAPE)(logits).log_prob(x)
    torch.testing.assert_close(log_px, Bernoulli(SHAPE)(logits.expand(5, *SHAPE)).log_prob(x))


def test_decoder_starts_at_the_mean_image() -> None:
    mean = torch.tensor([[[0.0, 0.2], [0.9, 1.0]]])
    likelihood = Bernoulli(SHAPE)
    started = likelihood(likelihood.params_from_mean(mean)).mean
    torch.testing.assert_close(started, mean.clamp(1e-3, 1 - 1e-3))
