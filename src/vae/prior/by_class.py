"""p(c) as a mixture over the classes of images: what a prior over codes is that depends on the label."""

from collections.abc import Callable
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Size, Tensor
from torch.distributions import Categorical, Distribution, constraints

from vae.checks import ConfigError, check_choice, check_int

OfLabels = Callable[[Tensor], Distribution]
"""Labels (B,) → p(c|y), of batch shape (B,) and event shape (n,)."""


def check_condition(condition: object, classes: object) -> int:
    """Return how many classes a prior depends on: 0 with `prior.condition=null`.

    Raises:
        ConfigError: it is to depend on labels, and nobody says how many classes there are.
    """
    if classes is not None:
        check_int("prior.classes", classes, minimum=2)
    if condition is None:
        return 0
    check_choice("prior.condition", condition, ("label",))
    if classes is None:
        raise ConfigError(
            "prior.condition=label: these images have no labels; of a set of your own that has some,"
            " prior.classes=… says how many"
        )
    assert isinstance(classes, int)
    return classes


class ByClass(Distribution):
    """p(c) = Σ_y π_y p(c|y), of event shape (n,).

    Args:
        logits: of π, up to a constant.
        of: labels → p(c|y).
        count: n.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, logits: Float[Tensor, " Y"], of: OfLabels, count: int):
        self.log_share, self.of = logits.log_softmax(0), of
        super().__init__(event_shape=Size((count,)), validate_args=False)

    def log_prob(self, value: Int64[Tensor, "*N n"]) -> Float[Tensor, "*N"]:
        """Return log p(c) in nats, by a pass for each class."""
        codes = value.reshape(-1, value.shape[-1])
        labels = torch.arange(len(self.log_share), device=codes.device)
        joint = [OfOneClass(self, label.expand(len(codes))).log_prob(codes) for label in labels]
        return torch.stack(joint).logsumexp(0).reshape(value.shape[:-1])

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Int64[Tensor, "..."]:
        """Draws of c, each of a class that is drawn."""
        shape = Size(sample_shape)
        labels = Categorical(logits=self.log_share, validate_args=False).sample(Size((shape.numel(),)))
        return self.of(labels).sample().reshape(*shape, -1)


class OfOneClass(Distribution):
    """p(c, y) at labels y, as a function of c, of batch shape (B,) and event shape (n,); draws are of p(c|y).

    With it −log p(c, y) is the loss of a prior that learns from labels: log p(x, y) ≥ −(distortion + rate).

    Args:
        mixture: over all classes.
        labels: y.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, mixture: ByClass, labels: Int64[Tensor, " B"]):
        self.log_share, self.p = mixture.log_share[labels], mixture.of(labels)
        super().__init__(labels.shape, mixture.event_shape, validate_args=False)

    def log_prob(self, value: Int64[Tensor, "*N n"]) -> Float[Tensor, "*N"]:
        """Return log p(c, y) in nats, of codes whose last axis before that of places is that of the labels."""
        return self.log_share + self.p.log_prob(value)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Int64[Tensor, "..."]:
        """Draws of c given y."""
        return self.p.sample(Size(sample_shape))
