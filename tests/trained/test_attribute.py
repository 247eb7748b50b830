"""Latent arithmetic on a linear model, where all of it is known."""

from pathlib import Path

import pytest
import torch

from pictures_on_disk import write_celeba
from vae.checks import ConfigError
from vae.data.celeba import CelebA
from vae.data.digits import Digits
from vae.likelihood.gaussian import Gaussian
from vae.model import LatentModel
from vae.network.mlp import MLPDecoder, MLPEncoder
from vae.picture.latent_walk import move
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.prior.standard_normal import StandardNormal
from vae.trained.attribute import difference_of_means, direction


@pytest.fixture
def data(tmp_path: Path) -> CelebA:
    write_celeba(tmp_path)
    data = CelebA(str(tmp_path), str(tmp_path / "cache"), size=8)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture
def model() -> LatentModel:
    """Encoder and decoder are linear."""
    return LatentModel(
        image_shape=(3, 8, 8),
        latent_size=5,
        encoder=lambda shape: MLPEncoder(shape, [], "relu"),
        decoder=lambda latent_size, shape: MLPDecoder(latent_size, shape, [], "relu"),
        posterior=DiagonalGaussian,
        prior=StandardNormal,
        likelihood=Gaussian,
    )


def test_direction_is_the_encoded_difference_of_mean_images(model: LatentModel, data: CelebA) -> None:
    """E[z|x] = A x + b, so that the difference of mean latents is A times the difference of mean images."""
    x, _ = data.images("train", 100)
    smiling = data.attributes("train").values[:, 0]
    difference = x[smiling].mean(0) - x[~smiling].mean(0)
    matrix = model.posterior.mean_and_log_scale.weight[:5]
    torch.testing.assert_close(direction(model, data, "Smiling"), matrix @ difference.flatten())


def test_direction_is_zero_between_equal_groups_and_odd_under_negation() -> None:
    z, has_it = torch.randn(6, 3), torch.tensor([True, False, True, False, False, True])
    torch.testing.assert_close(difference_of_means(z, ~has_it), -difference_of_means(z, has_it))
    assert difference_of_means(z[:1].expand(6, 3), has_it).abs().max() < 1e-6


def test_moving_is_linear_in_the_strength(model: LatentModel, data: CelebA) -> None:
    x, along = data.images("train", 2)[0], torch.randn(5)
    images = move(model, x, along, torch.tensor([0.0, 1.0, 2.0]))
    torch.testing.assert_close(images[:, 0], model.reconstruct(x))
    step = (model.decoder.output.weight @ along).view(3, 8, 8)
    torch.testing.assert_close(images[:, 1] - images[:, 0], step.expand(2, 3, 8, 8), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(images[:, 2] - images[:, 1], step.expand(2, 3, 8, 8), atol=1e-5, rtol=1e-4)


def test_impossible_attributes(model: LatentModel, data: CelebA) -> None:
    with pytest.raises(ConfigError, match=r"attribute=Smilling: must be one of Smiling, Young"):
        direction(model, data, "Smilling")
    with pytest.raises(ConfigError, match=r"attribute=Young: all of the val images have it"):
        direction(model, data, "Young", split="val")
    digits = Digits(val_size=10)
    digits.setup()
    with pytest.raises(ConfigError, match=r"attribute: Digits has no attributes"):
        direction(model, digits, "Smiling")
