"""Where a training went wrong, in words."""

from collections.abc import Sequence

from lightning import LightningModule
from torch import Tensor, distributed
from torch.nn.utils import get_total_norm

Step = tuple[Tensor, Tensor, Tensor]
"""Of a training step: the loss, and of each image the distortion and the rate."""


def describe(module: LightningModule, steps: Sequence[Step], last: int) -> str:
    """What is wrong: the first step whose loss is not finite, its batch, which term it was, σ and the gradients.

    To be called in all ranks at once: what one of them has seen, all say.

    Args:
        module: the `VAEModule` that trains.
        steps: the latest steps of this epoch.
        last: the number of the last of them, from 1.
    """
    bad = _first(steps)
    batch: int = module.latest_batch  # type: ignore[assignment]
    epoch = module.trainer.current_epoch + 1
    behind, term = (0, "the gradient, not the loss, is not finite") if bad is None else bad
    where = f"at step {last - behind} (epoch {epoch}, batch {batch - behind}): {term}"
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    norm = f"{float(get_total_norm(gradients)):.4g}" if gradients else "unknown"
    where = _of_all_ranks(where, bad is not None)
    return f"the training has diverged {where}; σ {_sigma(module)}, gradient norm {norm}"


def _first(steps: Sequence[Step]) -> tuple[int, str] | None:
    """How many steps before the last one the first was whose loss is not finite, and which term it was."""
    for behind, (loss, distortion, rate) in zip(range(len(steps) - 1, -1, -1), steps, strict=True):
        if loss.isfinite():
            continue
        named = {"the distortion": distortion, "the rate": rate}
        for name, values in named.items():
            bad = values[~values.isfinite()]
            if len(bad):
                return behind, f"{name} of {len(bad)} of {len(values)} images is {float(bad[0])}"
        return behind, f"the log-weights give a loss of {float(loss)}"
    return None


def _of_all_ranks(where: str, found: bool) -> str:
    if not (distributed.is_available() and distributed.is_initialized()):
        return where
    said: list[tuple[bool, str]] = [(False, "")] * distributed.get_world_size()
    distributed.all_gather_object(said, (found, where))
    return max(said, key=lambda each: each[0])[1]


def _sigma(module: LightningModule) -> str:
    sigma = getattr(getattr(module.model, "likelihood", None), "sigma", None)
    if sigma is None:
        return "none"
    values = sigma.flatten().tolist() if isinstance(sigma, Tensor) else [float(sigma)]
    return f"{min(values):.4g}" if len(values) == 1 else f"from {min(values):.4g} to {max(values):.4g}"
