"""A description of where a training diverged."""

from collections.abc import Sequence
from typing import NamedTuple

from lightning import LightningModule
from torch import Tensor, distributed
from torch.nn.utils import get_total_norm

from vae.bound.ranks import several_ranks
from vae.model import LatentModel


class Step(NamedTuple):
    """The record of a training step: its loss, each image's distortion and rate, and the batch's number.

    If the record is of several successive steps, the tensors have one more axis, in front, and the number is that
    of the first batch.
    """

    loss: Tensor
    distortion: Tensor
    rate: Tensor
    batch: int

    def singly(self) -> list["Step"]:
        """Return each step as its own record."""
        losses = self.loss.reshape(-1)
        images = [values.reshape(len(losses), -1) for values in (self.distortion, self.rate)]
        rows = zip(losses, *images, strict=True)
        return [Step(loss, distortion, rate, self.batch + n) for n, (loss, distortion, rate) in enumerate(rows)]


def describe(module: LightningModule, steps: Sequence[Step], last: int) -> str:
    """Return what is wrong, in words.

    The text names the first step whose loss is not finite, its batch, which term it was, σ and the gradients. Call
    this in all ranks at once: what one of them has seen, all of them report.

    Args:
        module: the `VAEModule` that trains.
        steps: the latest steps of this epoch.
        last: the number of the last of them, from 1.
    """
    assert isinstance(module.model, LatentModel)
    steps = [single for step in steps for single in step.singly()]
    found = _first(steps)
    epoch = module.trainer.current_epoch + 1
    behind, term = (0, "the gradient, not the loss, is not finite") if found is None else found
    where = f"at step {last - behind} (epoch {epoch}, batch {steps[-1 - behind].batch}): {term}"
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    norm = f"{float(get_total_norm(gradients)):.4g}" if gradients else "unknown"
    where = _of_all_ranks(where, found is not None)
    return f"the training has diverged {where}; σ {_spread(module.model)}, gradient norm {norm}"


def _first(steps: Sequence[Step]) -> tuple[int, str] | None:
    """Return the first step whose loss is not finite, and which term it was.

    The step is given as the number of steps before the last one.
    """
    for behind, step in zip(range(len(steps) - 1, -1, -1), steps, strict=True):
        if step.loss.isfinite():
            continue
        for name, values in (("the distortion", step.distortion), ("the rate", step.rate)):
            bad = values[~values.isfinite()]
            if len(bad):
                return behind, f"{name} of {len(bad)} of {len(values)} images is {float(bad[0])}"
        return behind, f"the log-weights give a loss of {float(step.loss)}"
    return None


def _of_all_ranks(where: str, found: bool) -> str:
    if not several_ranks():
        return where
    of_ranks: list[tuple[bool, str]] = [(False, "")] * distributed.get_world_size()
    distributed.all_gather_object(of_ranks, (found, where))
    return max(of_ranks, key=lambda each: each[0])[1]


def _spread(model: LatentModel) -> str:
    if model.likelihood.spread is None:
        return "none"
    values = model.likelihood.spread.flatten().tolist()
    return f"{min(values):.4g}" if len(values) == 1 else f"from {min(values):.4g} to {max(values):.4g}"
