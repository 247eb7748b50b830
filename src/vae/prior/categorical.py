"""`prior=categorical`: independent choices with learned frequencies."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Distribution, Independent

from vae.bound.codes import Codes
from vae.prior.by_class import ByClass, OfOneClass, check_condition
from vae.prior.prior import Prior


class Categorical(Prior):
    """p(c) = Π_i π_i(c_i), with a table π_i of frequencies for each place, learned with the rest.

    Of a mixture they are its weights. With `condition=label` there is a table for each class of images, and p(c)
    is their mixture, see `vae.prior.by_class`.

    Args:
        latent_size: D.
        image_shape: (C, H, W); of use only to priors that are built from images.
        condition: None, or `label`.
        classes: of the images, None where they have no labels.
    """

    over_codes = True

    def __init__(
        self,
        latent_size: int,
        image_shape: tuple[int, int, int],
        condition: str | None = None,
        classes: int | None = None,
    ):
        super().__init__()
        self.classes = check_condition(condition, classes)
        self.has_table = not self.classes

    def take_codes(self, codes: Codes) -> None:
        """Be a prior over these codes."""
        tables = (self.classes,) if self.classes else ()
        self.logits = nn.Parameter(torch.zeros(*tables, codes.count, codes.classes))
        if self.classes:
            self.class_logits = nn.Parameter(torch.zeros(self.classes))

    def forward(self, encode: Callable[[Tensor], Distribution]) -> Distribution:
        """p(c), of event shape (n,). `encode` (x → q(z|x)) is not used by this prior."""
        if self.classes:
            return ByClass(self.class_logits, self._of, self.logits.shape[-2])
        return independent(self.logits)

    def of_labels(self, labels: Int64[Tensor, " B"]) -> OfOneClass:
        """p(c, y), of batch shape (B,)."""
        return OfOneClass(ByClass(self.class_logits, self._of, self.logits.shape[-2]), labels)

    def _of(self, labels: Int64[Tensor, " B"]) -> Independent:
        return independent(self.logits[labels])


def independent(logits: Float[Tensor, "*B n K"]) -> Independent:
    """Independent choices, of event shape (n,)."""
    return Independent(TorchCategorical(logits=logits, validate_args=False), 1, validate_args=False)
