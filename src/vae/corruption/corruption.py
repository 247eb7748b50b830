"""Corruptions of x. They are drawn again at each use.

The draws are from the default generator, which each batch's key has set.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vae.checks import ConfigError, check_number


class GaussianNoise(nn.Module):
    """`corruption=gaussian_noise`: x + sigma·ε with ε ~ N(0, 1) for each value.

    The result is not clipped. Source: Im et al. 2017, Denoising criterion for variational auto-encoding framework,
    section 4.

    Args:
        sigma: the σ of the noise, in units of x (the range of a pixel is 1).
    """

    def __init__(self, sigma: float = 0.3):
        super().__init__()
        self.sigma = check_number("corruption.sigma", sigma, above=0)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return x + self.sigma * torch.randn_like(x)


class SaltAndPepper(nn.Module):
    """`corruption=salt_and_pepper`: pixels set to 0 or to 1, with equal chance.

    Each pixel, in all its channels, is set with probability `rate` (Vincent et al. 2010, Stacked denoising
    autoencoders, section 3.3).

    Args:
        rate: in [0, 1].
    """

    def __init__(self, rate: float = 0.2):
        super().__init__()
        self.rate = check_number("corruption.rate", rate, minimum=0, maximum=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        hit = torch.rand_like(x[:, :1]) < self.rate
        return torch.where(hit, (torch.rand_like(x[:, :1]) < 0.5).to(x), x)


class Mask(nn.Module):
    """`corruption=mask`: pixels set to `fill`.

    Each pixel, in all its channels, is set with probability `rate` (Vincent et al. 2010, section 3.3).

    Args:
        rate: in [0, 1].
        fill: in [0, 1].
    """

    def __init__(self, rate: float = 0.5, fill: float = 0.0):
        super().__init__()
        self.rate = check_number("corruption.rate", rate, minimum=0, maximum=1)
        self.fill = check_number("corruption.fill", fill, minimum=0, maximum=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        return x.masked_fill(torch.rand_like(x[:, :1]) < self.rate, self.fill)


class Box(nn.Module):
    """`corruption=box`: a box at a random place in each image, set to `fill`, for inpainting.

    Source: Pathak et al. 2016, Context encoders, section 3.3.

    Args:
        size: the side of the box as a fraction of the image's sides, in (0, 1].
        fill: in [0, 1].
    """

    def __init__(self, size: float = 0.5, fill: float = 0.5):
        super().__init__()
        self.size = check_number("corruption.size", size, above=0, maximum=1)
        self.fill = check_number("corruption.fill", fill, minimum=0, maximum=1)

    def forward(self, x: Float[Tensor, "B C H W"]) -> Float[Tensor, "B C H W"]:
        rows, columns = (self._inside(x, length) for length in x.shape[-2:])
        box = rows[:, None, :, None] & columns[:, None, None, :]  # (B, 1, H, W)
        return x.masked_fill(box, self.fill)

    def _inside(self, x: Float[Tensor, "B C H W"], length: int) -> Tensor:
        """Return, for each image, a mask of the rows or columns that the box covers, of shape (B, length)."""
        side = round(self.size * length)
        if side == 0:
            raise ConfigError(f"corruption.size={self.size}: the box has no pixel in an image of side {length}")
        start = torch.randint(0, length - side + 1, (len(x), 1), device=x.device)
        position = torch.arange(length, device=x.device)
        return (position >= start) & (position < start + side)
