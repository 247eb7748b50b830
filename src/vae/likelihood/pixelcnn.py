"""`likelihood=pixelcnn`: p(x|z) by the chain rule, one pixel after the other."""

from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from vae.causal.pixelcnn import PixelCNN as Network
from vae.checks import ConfigError, check_choice, check_int
from vae.likelihood.bernoulli import Bernoulli
from vae.likelihood.categorical import Categorical
from vae.likelihood.discretized import DiscretizedLogistic
from vae.likelihood.likelihood import Likelihood

PIXELS: dict[str, Callable[..., Likelihood]] = {
    "bernoulli": Bernoulli,
    "categorical": Categorical,
    "discretized_logistic": partial(DiscretizedLogistic, components=5),
}


class PixelCNN(Likelihood):
    """p(x|z) = Π_i p(x_i | x_1, …, x_{i−1}, z), by a gated PixelCNN that the decoder's maps condition.

    Pixels come in raster order, and the channels of a pixel one after the other, each with one of this project's
    other likelihoods. A network that sees far models x by itself and leaves z nothing to say; one that sees
    little, with few layers and a small kernel, models what is near and leaves the rest to z (Chen et al. 2017,
    Variational lossy autoencoder, section 2.3; Gulrajani et al. 2017, PixelVAE).

    There is no closed form for E[x|z]: where other likelihoods show it, this one shows a draw.

    Args:
        image_shape: (C, H, W).
        pixels: `bernoulli`, `categorical` (256 levels) or `discretized_logistic` (a mixture of five).
        channels: maps of the network.
        layers: its depth.
        kernel: places on a side of its convolutions, odd.
        maps: the decoder's.
    """

    has_mean = False

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        pixels: str = "bernoulli",
        channels: int = 32,
        layers: int = 5,
        kernel: int = 5,
        maps: int = 8,
    ):
        channels_of_x, height, width = image_shape
        super().__init__((check_int("likelihood.maps", maps), height, width))
        columns = channels_of_x * width
        self.pixel = PIXELS[check_choice("likelihood.pixels", pixels, PIXELS)]((1, height, columns))
        self.support = self.pixel.support
        try:
            self.network = Network(
                1,
                self.pixel.param_shape[0],
                height,
                columns,
                maps + channels_of_x,
                channels=channels,
                layers=layers,
                kernel=kernel,
            )
        except ConfigError as error:
            raise ConfigError(f"likelihood.{error}") from error
        start = self.pixel.params_from_mean(torch.full((1, 1, 1), 0.5))
        self.register_buffer("start", start, persistent=False)
        which = torch.eye(channels_of_x).repeat(1, width)[:, None].expand(-1, height, -1)
        self.register_buffer("which_channel", which.contiguous(), persistent=False)

    start: Tensor
    which_channel: Tensor

    def forward(self, params: Float[Tensor, "*N P H W"]) -> "PixelByPixel":
        """p(x|z), of event shape (C, H, W)."""
        return PixelByPixel(self, params, len(self.which_channel))

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "P H W"]:
        """Refuse: no output of the decoder has a mean that is known beforehand."""
        raise ConfigError("start_from_mean=true: likelihood=pixelcnn has no mean to start from")


class PixelByPixel(Distribution):
    """The distribution of pixels one after the other, of event shape (C, H, W).

    Args:
        likelihood: its network, and what the network's outputs mean.
        maps: the decoder's.
        channels: C.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, likelihood: PixelCNN, maps: Float[Tensor, "*N P H W"], channels: int):
        self.likelihood, self.maps = likelihood, maps
        super().__init__(maps.shape[:-3], Size((channels, *maps.shape[-2:])), validate_args=False)

    def log_prob(self, value: Float[Tensor, "*M C H W"]) -> Float[Tensor, "*L"]:
        """Return log p(x|z) in nats, in one pass, over the broadcast batch shapes of x and z."""
        shape = torch.broadcast_shapes(self.batch_shape, value.shape[:-3])
        maps = self.maps.expand(*shape, *self.maps.shape[-3:]).reshape(-1, *self.maps.shape[-3:])
        x = interleaved(value.expand(*shape, *value.shape[-3:]).reshape(-1, *value.shape[-3:]))
        outputs = self.likelihood.network(2 * x - 1, self._condition(maps))
        return self.likelihood.pixel(outputs + self.likelihood.start).log_prob(x).reshape(shape)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Draws of x, pixel by pixel."""
        shape = self._extended_shape(Size(sample_shape))
        maps = self.maps.expand(*shape[:-3], *self.maps.shape[-3:]).reshape(-1, *self.maps.shape[-3:])

        def draw(outputs: Tensor) -> Tensor:
            p = self.likelihood.pixel(outputs[..., None, None] + self.likelihood.start)
            return 2 * p.sample()[..., 0, 0] - 1

        with torch.no_grad():
            drawn = self.likelihood.network.generate(draw, len(maps), self._condition(maps))
        x = ((drawn + 1) / 2).clamp(0, 1)
        return x.unflatten(-1, (-1, self.event_shape[0]))[:, 0].movedim(-1, 1).reshape(shape)

    def _condition(self, maps: Float[Tensor, "N P H W"]) -> Float[Tensor, "N M H V"]:
        """Return the maps for each channel of each pixel, and which channel it is."""
        channels = self.event_shape[0]
        which = self.likelihood.which_channel.expand(len(maps), -1, -1, -1)
        return torch.cat((maps.repeat_interleave(channels, -1), which), 1)


def interleaved(x: Float[Tensor, "N C H W"]) -> Float[Tensor, "N 1 H V"]:
    """Return the channels of each pixel side by side, V = C·W."""
    return x.movedim(1, -1).flatten(2).unsqueeze(1)
