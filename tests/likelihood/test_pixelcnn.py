"""Pixels one after the other: their likelihood sums to one over all images, and is that of the draws."""

import itertools
from functools import partial

import pytest
import torch

from vae.checks import ConfigError
from vae.likelihood.pixelcnn import PixelCNN, interleaved
from vae.model import LatentModel
from vae.network.unconditional import UnconditionalDecoder, UnconditionalEncoder
from vae.posterior.independent import IndependentOfImage
from vae.prior.standard_normal import StandardNormal

SMALL = {"channels": 6, "layers": 2, "kernel": 3, "maps": 2}


def likelihood_of(shape: tuple[int, int, int], **options: object) -> PixelCNN:
    """With weights far from their start."""
    likelihood = PixelCNN(shape, **SMALL | options)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in likelihood.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return likelihood


def every_image(shape: tuple[int, int, int]) -> torch.Tensor:
    """All binary images."""
    count = torch.Size(shape).numel()
    return torch.tensor(list(itertools.product((0.0, 1.0), repeat=count))).unflatten(1, shape)


@pytest.mark.parametrize("shape", [(1, 3, 3), (2, 2, 2), (3, 1, 3)])
def test_binary_images_sum_to_one_and_are_drawn_as_often_as_it_says(shape: tuple[int, int, int]) -> None:
    p = likelihood_of(shape)(torch.randn(2, *shape[1:]))
    x = every_image(shape)
    probability = p.log_prob(x).exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-4)
    draws = p.sample(torch.Size((20_000,)))
    assert draws.shape == (20_000, *shape)
    index = (draws.flatten(1) * 2 ** torch.arange(draws[0].numel() - 1, -1, -1)).sum(1).long()
    share = torch.bincount(index, minlength=len(x)) / 20_000
    assert ((share - probability).abs() < 5 * (probability / 20_000).sqrt() + 1e-4).all()


@pytest.mark.parametrize("pixels", ["categorical", "discretized_logistic"])
def test_bytes_sum_to_one_and_are_drawn_as_levels(pixels: str) -> None:
    likelihood = likelihood_of((1, 1, 2), pixels=pixels)
    p = likelihood(torch.randn(2, 1, 2))
    levels = torch.linspace(0, 1, 256)
    pairs = torch.cartesian_prod(levels, levels).unflatten(1, (1, 1, 2))
    log_p = torch.cat([p.log_prob(part) for part in pairs.split(4096)])
    assert log_p.logsumexp(0).item() == pytest.approx(0, abs=2e-3)
    draws = p.sample(torch.Size((50,))) * 255
    torch.testing.assert_close(draws, draws.round())
    assert likelihood.support == "bytes"


def test_the_density_is_over_the_batch_of_both(float64: None) -> None:
    likelihood, x, maps = likelihood_of((2, 2, 3)), torch.rand(4, 2, 2, 3).round(), torch.randn(5, 4, 2, 2, 3)
    log_p = likelihood(maps).log_prob(x)
    assert log_p.shape == (5, 4)
    torch.testing.assert_close(log_p[3, 2], likelihood(maps[3, 2]).log_prob(x[2]))
    assert likelihood(maps).sample().shape == (5, 4, 2, 2, 3)


def test_channels_of_a_pixel_are_neighbours() -> None:
    x = torch.arange(12.0).reshape(1, 3, 2, 2)
    assert interleaved(x)[0, 0].tolist() == [[0, 4, 8, 1, 5, 9], [2, 6, 10, 3, 7, 11]]


def test_without_latents_the_bound_is_log_p_of_x() -> None:
    """`experiment=autoregressive`: it sums to one over all images, and every draw has the same weight."""
    model = LatentModel(
        (1, 3, 3),
        1,
        UnconditionalEncoder,
        UnconditionalDecoder,
        IndependentOfImage,
        StandardNormal,
        partial(PixelCNN, **SMALL),
    )
    x = every_image((1, 3, 3))
    elbo = model.elbo(x)
    assert elbo.exp().sum().item() == pytest.approx(1, abs=1e-4)
    estimate = model.log_marginal(x, k=3)
    torch.testing.assert_close(estimate.log_px.float(), elbo, atol=1e-4, rtol=0)
    torch.testing.assert_close(estimate.ess, torch.full_like(estimate.ess, 3))
    terms = model.terms(x, model.encode(x), model.noise(1, len(x)))
    assert (terms.rate.abs() < 1e-6).all()


def test_every_parameter_gets_a_gradient() -> None:
    likelihood, maps = likelihood_of((3, 4, 4)), torch.randn(2, 2, 4, 4, requires_grad=True)
    likelihood(maps).log_prob(torch.rand(2, 3, 4, 4).round()).sum().backward()
    for name, parameter in likelihood.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name
    assert maps.grad is not None
    assert maps.grad.abs().amin() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixels": "gaussian"}, r"likelihood\.pixels=gaussian: must be one of bernoulli, categorical"),
        ({"kernel": 2}, r"likelihood\.kernel=2: must be a whole number from 3 to 99"),
        ({"kernel": 4}, r"likelihood\.kernel=4: must be odd"),
        ({"maps": 0}, r"likelihood\.maps=0"),
    ],
)
def test_bad_input_is_one_line(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        likelihood_of((1, 3, 3), **options)
