"""The size of a model and its cost."""

import torch
from lightning import Callback, LightningModule, Trainer

from vae.model import LatentModel, evaluating


class ModelSummary(Callback):
    """A callback that prints, when training begins, the parameters of each part and the FLOPs of one image."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.is_global_zero:
            assert isinstance(pl_module.model, LatentModel)
            print(summary(pl_module.model), flush=True)


def summary(model: LatentModel) -> str:
    """Return one line with the number of parameters of each part and the FLOPs of one image.

    The FLOPs are those of one image through the encoder and one z through the decoder.
    """
    parts = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    sizes = ", ".join(f"{name} {short(count)}" for name, count in parts.items() if count)
    shape = "×".join(map(str, model.image_shape))
    total = short(sum(parts.values()))
    return f"{shape}: {total} parameters ({sizes}), {short(flops(model))} FLOPs per image forward"


@torch.no_grad()
def flops(model: LatentModel) -> int:
    """Count the floating-point operations of matrix products and convolutions.

    A multiplication with its addition counts as 2. The count is for one image, encoded and decoded once; a
    training step costs about three times as many.
    """
    from torch.utils.flop_counter import FlopCounterMode

    x = torch.zeros(1, *model.image_shape, device=model.device)
    with evaluating(model), FlopCounterMode(display=False) as counter:
        model.reconstruct(x, torch.zeros(1, dtype=torch.int64, device=model.device))
    return counter.get_total_flops()


def short(number: int) -> str:
    """Return a number with three digits and k, M or G."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return str(number)
