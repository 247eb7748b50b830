"""How many of its codes a model uses."""

import torch
from torch import Tensor
from torchmetrics import Metric

from vae.metric.evaluated_batch import EvaluatedBatch, Sizes


class CodeUsage(Metric):
    """Of the K codes that each place may have, over all places and evaluated images:

    * `code_usage`: the share that some image has;
    * `code_perplexity`: e^H of their frequencies, K if all are equally frequent;
    * `dead_codes`: how many no image has.

    Of a model without codes nothing.

    Args:
        sizes: of the model.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.add_state("counts", torch.zeros(sizes.codes, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, batch: EvaluatedBatch) -> None:
        """Add one batch."""
        if len(self.counts):
            codes = batch.model.posterior.codes_of(batch.posterior_mean)
            self.counts += torch.bincount(codes.flatten(), minlength=len(self.counts))

    def compute(self) -> dict[str, Tensor]:
        """Return what the codes so far are."""
        if not len(self.counts):
            return {}
        share = self.counts.double() / self.counts.sum()
        return {
            "code_usage": (self.counts > 0).double().mean(),
            "code_perplexity": torch.special.entr(share).sum().exp(),
            "dead_codes": (self.counts == 0).sum().double(),
        }
