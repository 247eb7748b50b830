"""`posterior=delta`: a single z for each image, as in a plain autoencoder."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution, constraints

from vae.posterior.posterior import Posterior


class Delta(Posterior):
    """q(z|x) = δ(z − μ(x)), with μ linear in the features.

    It has no density, and KL(q‖p) = ∞. So there is no bound to maximise: use `objective=reconstruction`.

    Args:
        features: F, the width of the encoder's output.
        latent_size: D.
    """

    has_density = False

    def __init__(self, features: int, latent_size: int):
        super().__init__(latent_size)
        self.mean = nn.Linear(features, latent_size)

    def forward(self, features: Float[Tensor, "B F"]) -> "PointMass":
        """Return q(z|x), of batch shape (B,) and event shape (D,)."""
        return PointMass(self.mean(features))


class PointMass(Distribution):
    """A distribution with all probability at one point, of event shape (D,)."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(self, point: Float[Tensor, "B D"]):
        self.point = point
        super().__init__(point.shape[:-1], point.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        """The point."""
        return self.point

    @property
    def variance(self) -> Float[Tensor, "B D"]:
        """Zero."""
        return torch.zeros_like(self.point)

    def rsample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Return the point, repeated."""
        return self.point.expand(self._extended_shape(Size(sample_shape)))

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the log-density: ∞ at the point, −∞ elsewhere."""
        at_point = (value == self.point).all(-1)
        return torch.where(at_point, torch.inf, -torch.inf).to(value.dtype)
