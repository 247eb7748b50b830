"""The one VAE whose log p(x) is known: a linear decoder with Gaussian noise is probabilistic PCA.

x = W z + b + σ ε with z ~ N(0, I) has p(x) = N(b, W Wᵀ + σ² I), and the exact posterior is
N(M⁻¹ Wᵀ (x − b), σ² M⁻¹) with M = Wᵀ W + σ² I (Tipping & Bishop 1999, equations 7 and 8).
"""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from vae.likelihood.gaussian import Gaussian
from vae.model import LatentModel
from vae.network.mlp import MLPDecoder, MLPEncoder
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.prior.standard_normal import StandardNormal

SHAPE = (1, 2, 3)
SIGMA = 0.5
LINEAR = {"hidden_sizes": [], "activation": "relu"}


def linear_model(latent_size: int = 2, posterior: type[nn.Module] = DiagonalGaussian) -> LatentModel:
    """A linear VAE with random weights."""
    return LatentModel(
        image_shape=SHAPE,
        latent_size=latent_size,
        encoder=partial(MLPEncoder, **LINEAR),
        decoder=partial(MLPDecoder, **LINEAR),
        posterior=posterior,
        prior=StandardNormal,
        likelihood=partial(Gaussian, sigma=SIGMA),
    )


def decoder_weights(model: LatentModel) -> tuple[Float[Tensor, "P D"], Float[Tensor, " P"]]:
    """W and b."""
    return model.decoder.output.weight, model.decoder.output.bias


def exact_log_px(model: LatentModel, x: Float[Tensor, "B C H W"]) -> Float[Tensor, " B"]:
    """log p(x) in nats."""
    weight, bias = decoder_weights(model)
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(len(bias))
    return MultivariateNormal(bias, covariance).log_prob(x.flatten(1))


def make_posterior_exact(model: LatentModel) -> None:
    """Set the encoder to the exact posterior, for which W is first given orthogonal columns.

    Then M is diagonal, and so is the posterior's covariance, as a diagonal Gaussian's must be.
    """
    with torch.no_grad():
        weight, bias = decoder_weights(model)
        orthogonal = torch.linalg.qr(torch.randn_like(weight))[0]
        weight.copy_(orthogonal * torch.linspace(0.5, 1.5, weight.shape[1]))
        m = weight.square().sum(0) + SIGMA**2
        gain = weight.T / m[:, None]
        layer = model.posterior.mean_and_log_scale
        layer.weight.copy_(torch.cat((gain, torch.zeros_like(gain))))
        layer.bias.copy_(torch.cat((-gain @ bias, 0.5 * (SIGMA**2 / m).log())))
