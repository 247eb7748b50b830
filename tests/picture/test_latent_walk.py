"""Ways through the latent space on a linear model, where all of it is known."""

import pytest
import torch

from linear_gaussian import SHAPE, linear_model
from vae.checks import ConfigError
from vae.picture.latent_walk import images_at, interpolate, manifold, quantiles, spherical, traverse


def test_images_are_decoded_in_batches_of_any_shape() -> None:
    model, z = linear_model(3), torch.randn(7, 50, 3)
    torch.testing.assert_close(images_at(model, z)[6, 49], model.decode(z[6, 49]).mean)
    assert images_at(model, z[0, 0], show="samples").shape == SHAPE


def test_a_linear_interpolation_of_a_linear_model_is_that_of_the_reconstructions() -> None:
    model, a, b = linear_model(3), torch.rand(2, *SHAPE), torch.rand(2, *SHAPE)
    way = interpolate(model, a, b, 5)
    middle = (model.reconstruct(a) + model.reconstruct(b)) / 2
    torch.testing.assert_close(way[:, 2], middle)
    torch.testing.assert_close(way[:, 0], model.reconstruct(a))
    torch.testing.assert_close(way[:, 4], model.reconstruct(b))


def test_a_spherical_way_keeps_the_length() -> None:
    a, b = torch.nn.functional.normalize(torch.randn(2, 9), dim=1)
    way = spherical(a, b, torch.linspace(0, 1, 11)[:, None])
    torch.testing.assert_close(way.norm(dim=1), torch.ones(11))
    torch.testing.assert_close(spherical(a, 3 * a, torch.tensor([0.5])), 2 * a)


def test_a_traversal_moves_one_latent_about_a_centre() -> None:
    model, centre = linear_model(4), torch.randn(4)
    way = traverse(model, centre, 3, span=2)
    z = centre.clone()
    z[2] = 2.0
    torch.testing.assert_close(way[2, 2], model.decode(z).mean)
    assert way.shape == (4, 3, *SHAPE)


def test_the_manifold_has_z1_to_the_right_and_z2_upwards() -> None:
    model = linear_model(2)
    images, values = manifold(model, 5).unflatten(0, (5, 5)), quantiles(5)
    torch.testing.assert_close(images[0, 3], model.decode(torch.stack([values[3], values[4]])).mean)
    with pytest.raises(ConfigError, match="needs latent_size=2, but this run has 3"):
        manifold(linear_model(3))
