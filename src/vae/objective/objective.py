"""What every objective is."""

from abc import ABC, abstractmethod
from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.optim import Optimizer

from vae.bound.terms import Terms
from vae.checks import check_int


class Objective(nn.Module, ABC):
    """Terms and the optimiser step → the loss. A module, so that what it adapts is in the checkpoint.

    One of your own gives `forward`, from whatever the terms offer: log-densities, KL, the draws, q(z|x), p(z) and,
    where it `uses_labels`, labels. It is given the same while training and in evaluation.

    Args:
        draws: draws of z for each image that the terms must hold.
        chunk: how many of these are decoded at a time; None for all at once.

    Attributes:
        needs_density: whether q(z|x) must have a density.
        trains_prior: whether the loss depends on p(z).
        uses_log_densities: whether log p(z) and log q(z|x) of each draw are used. (This and the next are asked
            only where draws are decoded in chunks, which then give just that.)
        uses_draws: whether z itself is used, or its gradient.
        scales_paths: whether it multiplies the gradients of each draw, by `terms.scale`; only with `uses_draws`.
        counts_latents: whether a latent that says nothing adds to the loss all the same.
        adapts: whether `after_step` does something.
        weighs_draws: whether it compares the draws of an image with each other, so that they must not all be one.
        trains_itself: whether its parameters are trained apart from the model's, by `own_optimizer` and
            `own_loss`, as a discriminator's are. Otherwise those that it has are trained with the model's.
        seen: what `forward` leaves for `own_loss` of each image of a training step, without gradients.
        uses_labels: whether it uses `terms.label`, the class of each image.
        moves_draws: whether gradients must reach q(z|x) by way of z alone.
    """

    needs_density: bool = True
    trains_prior: bool = True
    uses_log_densities: bool = True
    uses_draws: bool = False
    scales_paths: bool = False
    counts_latents: bool = False
    adapts: bool = False
    weighs_draws: bool = False
    moves_draws: bool = False
    uses_labels: bool = False
    trains_itself: bool = False
    seen: Tensor | None = None

    def __init__(self, draws: int, chunk: int | None):
        super().__init__()
        self.draws, self.chunk = draws, None if chunk is None else check_int("objective.chunk", chunk)

    @abstractmethod
    def forward(self, terms: Terms, step: int | Tensor) -> Float[Tensor, ""]:
        """Return the loss in nats per image at optimiser step `step` (a tensor where the step is compiled)."""

    def settle(self, q: Distribution, p: Distribution) -> None:
        """Choose what was left open, by the kinds of q(z|x) and p(z); called once, before training."""

    def rate(self, terms: Terms) -> Float[Tensor, " B"]:
        """KL(q‖p) of each image, for the curve of training, from what the loss has worked out anyway."""
        return terms.sampled_rate

    def after_step(self, rate: Float[Tensor, " B"]) -> None:
        """Adapt to a training step that has been made; `rate` is that of its images. Called if it `adapts`."""

    def own_optimizer(self, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Return the optimiser of its own parameters, if it `trains_itself`."""
        raise NotImplementedError

    def own_loss(self, seen: Float[Tensor, "B ..."]) -> Float[Tensor, ""]:
        """Return what its own parameters are to lower, if it `trains_itself`; called after each step of the model.

        Args:
            seen: what `forward` has left, of all images of the batch, on whichever rank.
        """
        raise NotImplementedError

    def numbers(self, step: int) -> dict[str, float]:
        """Return what is to be logged beside the loss, by name."""
        return {}
