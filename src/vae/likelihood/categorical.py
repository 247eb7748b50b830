"""`likelihood=categorical`: any distribution over the 256 levels of a byte."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, Independent, constraints

from vae.likelihood.likelihood import Likelihood
from vae.likelihood.rounded import TOP, RoundedNormal, Shape


class Categorical(Likelihood):
    """log P(x|z) = Σ_pixels ln softmax(decoder)_{255 x}, with 256 decoder maps for each channel.

    It does not know the order of the levels, and must learn it from data (van den Oord et al. 2016, Pixel
    recurrent neural networks, section 3.5).

    Args:
        image_shape: (C, H, W).
    """

    support = "bytes"

    def __init__(self, image_shape: tuple[int, int, int]):
        channels, height, width = image_shape
        super().__init__(((TOP + 1) * channels, height, width))

    def forward(self, params: Float[Tensor, "*N P H W"]) -> Independent:
        """Return p(x|z), of event shape (C, H, W), from maps in the order (level, channel)."""
        logits = params.unflatten(-3, (TOP + 1, -1)).movedim(-4, -1)
        return Independent(Levels(logits), 3, validate_args=False)

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "P H W"]:
        """Return the decoder output of a rounded Gaussian around `mean` with σ = 0.3.

        It prefers no level strongly.
        """
        level = torch.linspace(0, 1, TOP + 1).to(mean)[:, None, None, None].expand(-1, *mean.shape)
        return RoundedNormal(mean, mean.new_tensor(0.3)).log_prob(level).flatten(0, 1)


class Levels(Distribution):
    """A categorical variable over x = 0, 1/255, …, 1. The last axis of `logits` is the level."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.unit_interval

    def __init__(self, logits: Float[Tensor, "*N 256"]):
        self.log_probability = logits.log_softmax(-1)
        super().__init__(logits.shape[:-1], validate_args=False)

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return ln P(value), elementwise. Each value must be one of the levels."""
        shape = torch.broadcast_shapes(value.shape, self.batch_shape)
        level = (value * TOP).round().long().expand(shape).unsqueeze(-1)
        return self.log_probability.expand(*shape, -1).gather(-1, level).squeeze(-1)

    @property
    def mean(self) -> Float[Tensor, "..."]:
        """The mean Σ_level P(level) x(level)."""
        levels = torch.linspace(0, 1, TOP + 1).to(self.log_probability)
        return (self.log_probability.exp() * levels).sum(-1)

    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """Return draws of x."""
        flat = self.log_probability.exp().flatten(0, -2)
        shape = self._extended_shape(Size(sample_shape))
        level = torch.multinomial(flat, Size(sample_shape).numel(), replacement=True).T.reshape(shape)
        return level.to(flat) / TOP
