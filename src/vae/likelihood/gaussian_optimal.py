"""Gaussian p(x|z) with the σ that is best for the data: σ-VAE."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent, Normal

from vae.bound.ranks import mean_over_ranks
from vae.checks import check_number
from vae.likelihood.gaussian import normal
from vae.likelihood.likelihood import Likelihood


class GaussianOptimal(Likelihood):
    """`likelihood=gaussian_optimal`: p(x|z) = N(x; μ(z), σ*² I) with σ*² the mean squared error.

    In training, σ*² is that of the batch being scored, over all ranks, which maximises the batch's likelihood and
    so needs no learning rate (Rybkin et al. 2021, Simple and effective VAE training with calibrated decoders,
    equation 6). A density may not look at what it scores, however: in evaluation σ* is a constant, the
    square root of the mean squared error over training images, which `calibrate` sets and a checkpoint holds.

    Args:
        image_shape: (C, H, W).
        min_sigma: the lower bound of σ*.
    """

    couples_batch = True
    needs_calibration = True
    sigma: Tensor

    def __init__(self, image_shape: tuple[int, int, int], min_sigma: float = 0.001):
        super().__init__(image_shape)
        self.min_sigma = check_number("likelihood.min_sigma", min_sigma, above=0)
        self.register_buffer("sigma", torch.tensor(1.0))

    def forward(self, params: Float[Tensor, "*N C H W"]) -> Independent:
        """p(x|z), of event shape (C, H, W); in training its σ is that of what it scores."""
        if not self.training:
            return normal(params, self.sigma)
        base = BatchOptimalNormal(params, self.sigma, self.min_sigma)
        return Independent(base, 3, validate_args=False)

    @property
    def spread(self) -> Float[Tensor, ""]:
        """σ*, as it was calibrated last."""
        return self.sigma

    def calibrate(self, mean_squared_error: Float[Tensor, ""]) -> None:
        """Set σ* for evaluation from the mean of (x − μ)² over training images, draws and pixels."""
        self.sigma.copy_(mean_squared_error.sqrt().clamp(min=self.min_sigma))

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """Return the decoder output at which the likelihood's mean is `mean`."""
        return mean


class BatchOptimalNormal(Normal):
    """N(μ, σ²) that scores x with σ² = the mean of (x − μ)² over all of x, and draws with the given σ.

    σ is a function of μ, and gradients go through it. Where all are weighed alike they are 0, as σ is the best for
    the mean; where draws are weighed by their importance, as in the IWAE bound, they are not.
    """

    def __init__(self, mean: Float[Tensor, "..."], sigma: Float[Tensor, ""], min_sigma: float):
        super().__init__(mean, sigma, validate_args=False)
        self.min_sigma = float(min_sigma)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return log N(value; μ, σ*²), elementwise."""
        squared_error = (value - self.loc).square()
        variance = mean_over_ranks(squared_error.mean()).clamp(min=self.min_sigma**2)
        return -0.5 * (squared_error / variance + variance.log() + math.log(2 * math.pi))
