import pytest
import torch

from vae.callback.model_summary import flops, short, summary
from vae.likelihood.gaussian import Gaussian
from vae.model import LatentModel
from vae.network.conv import ConvDecoder, ConvEncoder
from vae.network.mlp import MLPDecoder, MLPEncoder
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.prior.standard_normal import StandardNormal

CONV = {"base_width": 6, "max_width": 6, "depth": 1, "norm": "batch", "activation": "relu", "channels_last": True}


def _model(encoder: type, decoder: type, **options: object) -> LatentModel:
    return LatentModel(
        image_shape=(3, 8, 8),
        latent_size=5,
        encoder=lambda shape: encoder(shape, **options),
        decoder=lambda latent_size, shape: decoder(latent_size, shape, **options),
        posterior=DiagonalGaussian,
        prior=StandardNormal,
        likelihood=Gaussian,
    )


def test_flops_of_linear_layers() -> None:
    model = _model(MLPEncoder, MLPDecoder, hidden_sizes=[7], activation="relu")
    assert flops(model) == 2 * (192 * 7 + 7 * 10 + 5 * 7 + 7 * 192)


def test_flops_of_convolutions() -> None:
    """One 4×4 convolution from 3 to 6 channels onto 4×4 positions, and its transpose."""
    model = _model(ConvEncoder, ConvDecoder, **CONV)
    convolution = 4 * 4 * 3 * 6 * 16
    assert flops(model) == 2 * (2 * convolution + 96 * 10 + 5 * 96)


def test_counting_leaves_the_model_as_it_was() -> None:
    model = _model(ConvEncoder, ConvDecoder, **CONV)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flops(model.train())
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_line() -> None:
    line = summary(_model(MLPEncoder, MLPDecoder, hidden_sizes=[7], activation="relu"))
    parts = "encoder 1.35 k, posterior 80, decoder 1.58 k"
    assert line == f"3×8×8: 3.01 k parameters ({parts}), 5.59 k FLOPs per image forward"


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999"), (1000, "1 k"), (1_234_567, "1.23 M"), (5 * 10**9, "5 G")]
)
def test_short(number: int, text: str) -> None:
    assert short(number) == text
