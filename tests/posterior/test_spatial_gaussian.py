"""Latents that are maps: their places, their density and KL for each element, and what is made of them."""

from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal, kl_divergence

from commands import call_command, metrics_of, run_train, train_quickly
from vae import load_model
from vae.bound.maps import as_maps, as_vector
from vae.bound.terms import Terms, analytic_kl
from vae.checks import ConfigError
from vae.network.spatial import SpatialDecoder, SpatialEncoder
from vae.posterior.spatial_gaussian import SpatialGaussian
from vae.prior.standard_normal import StandardNormal

IMAGE, GRID, CHANNELS = (1, 8, 12), (2, 3), 4
D = CHANNELS * 6


def posterior(init_sigma: float = 1.0) -> SpatialGaussian:
    return SpatialGaussian(5 * 6, D, GRID, init_sigma)


def test_z_as_maps_and_back_is_itself() -> None:
    z = torch.arange(2.0 * D).view(2, D)
    maps = as_maps(z, GRID)
    assert maps.shape == (2, CHANNELS, *GRID)
    assert torch.equal(as_vector(maps), z)
    # The numbers of a place stand together in z.
    assert torch.equal(maps[0, :, 0, 1], z[0, CHANNELS : 2 * CHANNELS])


@pytest.mark.usefixtures("float64")
def test_it_is_a_convolution_of_1_by_1_with_its_gradients() -> None:
    q_of, maps = posterior(0.3), torch.randn(3, 5, *GRID, requires_grad=True)
    q = q_of(maps.flatten(1))
    kernel = q_of.mean_and_log_scale
    both = F.conv2d(maps, kernel.weight[:, :, None, None], kernel.bias)
    by_hand = Normal(both[:, :CHANNELS], 0.3 * both[:, CHANNELS:].exp())
    torch.testing.assert_close(as_maps(q.mean, GRID), by_hand.mean)
    torch.testing.assert_close(as_maps(q.stddev, GRID), by_hand.stddev)
    of_each = kl_divergence(by_hand, Normal(0.0, 1.0))
    kl = analytic_kl(q, StandardNormal(D, IMAGE)(lambda x: q))
    torch.testing.assert_close(kl, of_each.sum((1, 2, 3)))
    noise = q_of.noise(2, 3)
    z = q_of.draw(q, noise)
    terms = Terms(torch.zeros(2, 3), z, q, StandardNormal(D, IMAGE)(lambda x: q))
    torch.testing.assert_close(as_maps(terms.latent_kl(analytic=True), GRID), of_each)
    drawn = by_hand.mean + by_hand.stddev * as_maps(noise, GRID)
    torch.testing.assert_close(as_maps(z, GRID), drawn)
    torch.testing.assert_close(terms.log_qz, by_hand.log_prob(drawn).sum((2, 3, 4)))
    inputs = (maps, kernel.weight, kernel.bias)
    ours = torch.autograd.grad((kl.sum() + z.square().sum()), inputs, retain_graph=True)
    expected = torch.autograd.grad(of_each.sum() + drawn.square().sum(), inputs)
    for gradient, right in zip(ours, expected, strict=True):
        torch.testing.assert_close(gradient, right)


def test_a_place_of_z_is_a_place_of_the_image() -> None:
    image = (1, 28, 28)
    encoder, decoder = SpatialEncoder(image, [7, 7], 8, 0), SpatialDecoder(4 * 49, image, [7, 7], 8, 0)
    q_of = SpatialGaussian(encoder.features, 4 * 49, [7, 7])
    corner = torch.rand(1, *image)
    other = corner.clone()
    other[..., :2, :2] += 1
    moved = as_maps((q_of(encoder(other)).mean - q_of(encoder(corner)).mean).abs(), (7, 7)).amax((0, 1))
    assert moved[0, 0] > 0
    assert moved[4:, 4:].max() == 0
    z = q_of(encoder(corner)).mean
    further = as_maps(z, (7, 7)).clone()
    further[:, :, 0, 0] += 1
    difference = (decoder(as_vector(further)) - decoder(z)).abs().amax((0, 1))
    assert difference[:8, :8].max() > 0
    assert difference[20:, 20:].max() == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (partial(SpatialGaussian, 30, D, None), r"posterior\.grid=null: must be \[h,w\]"),
        (partial(SpatialGaussian, 30, 20, [2, 3]), r"latent_size=20: must be a multiple of 6, the places"),
        (
            partial(SpatialDecoder, 7, (1, 8, 8), [2, 2], 4, 1),
            r"latent_size=7: must be a multiple of 4, so",
        ),
        (partial(SpatialGaussian, 31, D, [2, 3]), r"posterior\.grid=\[2, 3\]: the encoder's 31 features"),
        (partial(SpatialGaussian, 30, D, [2, 0]), r"posterior\.grid=0: must be"),
    ],
)
def test_bad_input_is_one_line(make: partial[SpatialGaussian], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_first_stage_is_trained_encodes_to_maps_and_decodes_them(tmp_path: Path) -> None:
    run = tmp_path / "run"
    parts = ["network=spatial", "network.grid=[4,4]", "network.width=8", "posterior=spatial_gaussian"]
    quick = ["trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=csv", "callback=none"]
    done = run_train(*parts, *quick, "latent_size=32", f"hydra.run.dir='{run}'")
    assert done.returncode == 0, done.stderr
    metrics = metrics_of(run)
    assert metrics["test/elbo"] == pytest.approx(-metrics["test/distortion"] - metrics["test/rate"], rel=1e-5)
    model, x = load_model(run), torch.rand(3, 1, 8, 8)
    assert (model.latent_shape, model.latent_size) == ((2, 4, 4), 32)
    z = model.encode(x).mean
    maps = model.maps(z)
    assert maps.shape == (3, 2, 4, 4)
    assert torch.equal(model.decode(maps).mean, model.decode(z).mean)
    assert torch.equal(model.images_of(maps), model.reconstruct(x))
    with pytest.raises(
        ConfigError, match=r"the last axis must be 32, the latent size, or the last three \(2, 4, 4\)"
    ):
        model.decode(maps[:, :1])
    assert model.sample(2).shape == (2, 1, 8, 8)
    shown = call_command("vae.sample", f"run={run}", "picture=[samples,traversal,interpolation]", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr


def test_of_a_vector_there_are_no_maps(tmp_path: Path) -> None:
    model = load_model(train_quickly(tmp_path / "run"))
    assert model.latent_shape == (model.latent_size,)
    with pytest.raises(ConfigError, match="z of posterior=DiagonalGaussian is a vector"):
        model.maps(torch.zeros(1, model.latent_size))
