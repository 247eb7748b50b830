"""Batches as the test loop would give them to metrics."""

import torch
from torch import Tensor

from drawn import drawn
from vae.metric.evaluated_batch import EvaluatedBatch, Sizes
from vae.model import LatentModel


def sizes_of(model: LatentModel) -> Sizes:
    return Sizes(model.image_shape, model.latent_size, discrete=False)


@torch.no_grad()
def evaluation(model: LatentModel, x: Tensor, first: int = 0, label: Tensor | None = None) -> EvaluatedBatch:
    """One batch whose first image has the position `first`."""
    q = model.encode(x)
    terms = drawn(model, x, 1, q)
    return EvaluatedBatch(
        model=model,
        x=x,
        label=torch.zeros(len(x), dtype=torch.int64) if label is None else label,
        key=first,
        first=first,
        q=q,
        terms=terms,
        loss=-terms.elbo.mean(),
        posterior_mean=q.mean,
        reconstruction=model.decode(q.mean).mean,
    )


def measured(metric: object, model: LatentModel, x: Tensor, batch_size: int, label: Tensor | None = None) -> dict:
    """What a metric says of images that come in batches."""
    for first in range(0, len(x), batch_size):
        part = slice(first, first + batch_size)
        metric.update(evaluation(model, x[part], first, None if label is None else label[part]))
    return metric.compute()
