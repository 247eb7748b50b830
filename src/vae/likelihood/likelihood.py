"""What every likelihood is."""

from abc import ABC, abstractmethod
from typing import Literal

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

Support = Literal["real", "unit", "binary", "bytes"]


class Likelihood(nn.Module, ABC):
    """The decoder's output → p(x|z).

    One of your own takes (image_shape) and gives `forward` and `params_from_mean`. A torch distribution of event
    shape (C, H, W) with `log_prob`, `mean` and `sample` is enough. Its log-densities are normalised, constants
    included, and summed over pixels, so that they compare with those of every other likelihood of its kind.

    Args:
        param_shape: (P, H, W), the maps that the decoder must give; (C, H, W) for one map a channel.

    Attributes:
        support: the x that have a density: `real` any number, `unit` [0, 1], `binary` 0 and 1, `bytes` the 256
            levels 0, 1/255, …, 1. For the last two it is a probability, and bits per dimension are reported.
        decodes_spread: whether the decoder gives the spread of each pixel, too, which then has a start of its own.
        couples_batch: whether the density of an image depends on the others that are scored with it.
        has_mean: whether E[x|z] is known; a draw of x stands for it where it is not.
        needs_calibration: whether `calibrate` must be called with training images before each evaluation.
        own_init: whether its weights are started by itself, so that `init` leaves them alone.
    """

    support: Support = "real"
    decodes_spread: bool = False
    couples_batch: bool = False
    has_mean: bool = True
    needs_calibration: bool = False
    own_init: bool = False

    def __init__(self, param_shape: tuple[int, int, int]):
        super().__init__()
        self.param_shape = param_shape

    @abstractmethod
    def forward(self, params: Float[Tensor, "*N P H W"]) -> Distribution:
        """p(x|z), of batch shape N and event shape (C, H, W)."""

    @abstractmethod
    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "P H W"]:
        """Return the decoder's output at which E[x|z] is `mean`, for `start_from_mean`."""

    @property
    def spread(self) -> Float[Tensor, "..."] | None:
        """σ now, in units of x, where the likelihood has one that does not depend on z."""
        return None

    def calibrate(self, mean_squared_error: Float[Tensor, ""]) -> None:
        """Set that constant from the mean of (x − E[x|z])² over training images, draws and pixels."""
