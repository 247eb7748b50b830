"""The Python API on a model that was not trained: shapes, identities, and what is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal

from vae.checks import ConfigError
from vae.prior.flow import FlowPrior
from vae.trained.trained_model import TrainedModel, draws_at
from vae.training.build import build_model


@pytest.fixture
def model(composed: Callable[..., DictConfig]) -> TrainedModel:
    config = composed("latent_size=3", "network.hidden_sizes=[16]")
    data = instantiate(config.data)
    return TrainedModel(build_model(config, data.image_shape).eval(), data)


@pytest.fixture
def binary(composed: Callable[..., DictConfig]) -> TrainedModel:
    config = composed(
        "latent_size=3", "network.hidden_sizes=[16]", "likelihood=bernoulli", "data.binarize=dynamic"
    )
    data = instantiate(config.data)
    return TrainedModel(build_model(config, data.image_shape).eval(), data)


def test_bytes_and_floats_are_the_same_images(model: TrainedModel) -> None:
    pixels = torch.randint(0, 256, (5, 1, 8, 8), dtype=torch.uint8)
    torch.testing.assert_close(model.reconstruct(pixels), model.reconstruct(pixels.float() / 255))
    torch.testing.assert_close(model.reconstruct(pixels[0].numpy()[0]), model.reconstruct(pixels[:1]))


def test_shapes(model: TrainedModel) -> None:
    x = torch.rand(2, 1, 8, 8)
    assert model.sample(5).shape == (5, 1, 8, 8)
    assert model.sample(5, show="samples").shape == (5, 1, 8, 8)
    assert model.encode(x).mean.shape == (2, 3)
    assert model.decode(torch.zeros(4, 3)).mean.shape == (4, 1, 8, 8)
    assert model.elbo(x).shape == (2,)
    assert model.interpolate(x, x, steps=4).shape == (2, 4, 1, 8, 8)
    assert model.traverse(steps=5).shape == (3, 5, 1, 8, 8)


def test_many_images_give_what_few_give(model: TrainedModel) -> None:
    x = torch.rand(300, 1, 8, 8)
    torch.testing.assert_close(model.reconstruct(x)[-5:], model.reconstruct(x[-5:]))
    estimate = model.log_marginal(x, k=3)
    assert estimate.log_px.shape == estimate.stderr.shape == estimate.ess.shape == (300,)
    assert estimate.convergence[3].shape == (300,)


@pytest.mark.parametrize("kind", ["linear", "spherical"])
def test_interpolations_begin_and_end_at_the_reconstructions(model: TrainedModel, kind: str) -> None:
    a, b = torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)
    way = model.interpolate(a, b, 7, kind)
    torch.testing.assert_close(way[:, 0], model.reconstruct(a))
    torch.testing.assert_close(way[:, -1], model.reconstruct(b))


def test_a_traversal_moves_one_latent_at_a_time(model: TrainedModel) -> None:
    z = torch.zeros(1, 3)
    z[0, 1] = -2.0
    torch.testing.assert_close(model.traverse(steps=3, span=2)[1, 0], model.decode(z).mean[0])
    torch.testing.assert_close(model.traverse(steps=3)[0, 1], model.decode(torch.zeros(1, 3)).mean[0])


def test_temperature_scales_the_latents_about_the_mean(model: TrainedModel) -> None:
    warm, cold = model.latents(100, 1.0, seed=1), model.latents(100, 0.5, seed=1)
    torch.testing.assert_close(cold, 0.5 * warm)
    assert (model.latents(4, 0.0, seed=1).std(0) == 0).all()


def test_temperature_of_a_mixture_is_about_its_components_and_not_between_them() -> None:
    p = MixtureSameFamily(
        Categorical(torch.ones(2) / 2), Independent(Normal(torch.tensor([[-50.0], [50.0]]), 1.0), 1)
    )
    draws = draws_at(0.5, p, 4000)
    assert (draws.abs() - 50).std() == pytest.approx(0.5, rel=0.1)
    assert set(draws_at(0.0, p, 100).flatten().tolist()) == {-50.0, 50.0}


def test_temperature_of_a_flow_is_that_of_its_base() -> None:
    p = FlowPrior(3, (1, 8, 8))(lambda images: None)
    torch.manual_seed(3)
    warm = p.transform(p.sample(torch.Size((5,))))
    torch.manual_seed(3)
    torch.testing.assert_close(p.transform(draws_at(0.5, p, 5)), 0.5 * warm, atol=1e-5, rtol=1e-4)


def test_a_seed_gives_the_same_samples_and_leaves_the_generator_alone(model: TrainedModel) -> None:
    state = torch.random.get_rng_state()
    torch.testing.assert_close(model.sample(4, seed=3), model.sample(4, seed=3))
    assert torch.equal(state, torch.random.get_rng_state())


def test_binary_models_binarise_bytes_and_refuse_grey_floats(binary: TrainedModel) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    x = binary.x(pixels)
    assert set(x.unique().tolist()) == {0.0, 1.0}
    torch.testing.assert_close(x, binary.x(pixels))
    with pytest.raises(ConfigError, match=r"data\.binarize=dynamic"):
        binary.reconstruct(torch.rand(2, 1, 8, 8))
    assert binary.reconstruct(x).shape == (3, 1, 8, 8)


def test_impossible_requests_are_refused(model: TrainedModel) -> None:
    x = torch.rand(2, 1, 8, 8)
    for request, line in (
        (lambda: model.sample(0), "n=0"),
        (lambda: model.sample(3, temperature=-1), "temperature=-1"),
        (lambda: model.sample(3, show="paintings"), "show=paintings: must be one of means, samples"),
        (lambda: model.log_marginal(x, k=0), "k=0"),
        (lambda: model.decode(torch.zeros(2, 4)), "the last axis must be 3"),
        (lambda: model.interpolate(x, x[:1]), "give as many"),
        (lambda: model.interpolate(x, x, steps=1), "steps=1"),
        (lambda: model.reconstruct(torch.rand(28, 28)), "images of shape 28×28: this model takes images of 1×8×8"),
    ):
        with pytest.raises(ConfigError, match=line):
            request()
