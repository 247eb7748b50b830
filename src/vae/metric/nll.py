"""The importance-sampled likelihood, as a mean over images, with its uncertainty."""

import math
from math import prod

import torch
from torch import Tensor

from vae.bound.importance import stages
from vae.checks import ConfigError, check_int
from vae.metric.evaluated_batch import EvaluatedBatch, Sizes
from vae.metric.per_image import PerImage, standard_error
from vae.random import draw_key, set_draws

POOR = 0.1
"""An image counts as poorly estimated where its ESS is below this part of the median ESS."""


class NLL(PerImage):
    """nll = −log p(x) by importance sampling with exactly k draws, a mean over images in nats.

    An upper bound in expectation, which falls to the exact value as k grows (Burda et al. 2016, theorem 1).
    With it come

    * `nll_k`: k;
    * `nll_stderr`: the standard error of the mean over images, as a sample of all images;
    * `nll_mc_stderr`: the part of it that comes from the k draws being finitely many;
    * `nll_ess`: the mean effective sample size (Σw)² / Σw² of the draws, out of k;
    * `nll_poor`: the share of images whose ESS is below a tenth of the median;
    * `nll_at_1`, `nll_at_10`, …: the value from the first 1, 10, … of the same draws;
    * `nll_bits_per_dim` = nll / (C·H·W·ln 2), for discrete likelihoods only.

    Args:
        sizes: of the model.
        k: draws of z for each image.
        chunk: draws that are decoded at a time, or `auto` for what fits in little memory.
    """

    def __init__(self, sizes: Sizes, k: int, chunk: int | str = "auto"):
        noted = stages(check_int("metric.test.nll.k", k))
        super().__init__(estimates=torch.empty(0, 2 + len(noted), dtype=torch.float64))
        self.sizes, self.k, self.stages, self.chunk = sizes, k, noted, _check_chunk(chunk)

    def update(self, batch: EvaluatedBatch) -> None:
        """Add one batch."""
        if not self.sizes.has_density:
            return
        set_draws(draw_key("nll", batch.key), batch.x.device)
        estimate = batch.model.log_marginal(batch.x, self.k, self.chunk, batch.q)
        nll = [-estimate.convergence[k] for k in self.stages]
        self.add(batch.first, estimates=torch.stack([estimate.stderr, estimate.ess, *nll], 1))

    def compute(self) -> dict[str, Tensor]:
        """The mean so far, and its uncertainty; nothing where q(z|x) is a point."""
        if not self.sizes.has_density:
            return {}
        mc_stderr, ess, *convergence = self.rows("estimates").unbind(1)
        nll = convergence[-1]
        values = {
            "nll": nll.mean(),
            "nll_stderr": standard_error(nll),
            "nll_mc_stderr": mc_stderr.square().sum().sqrt() / len(nll),
            "nll_ess": ess.mean(),
            "nll_poor": (ess < POOR * ess.median()).double().mean(),
            "nll_k": nll.new_tensor(self.k),
        }
        if self.sizes.discrete:
            values["nll_bits_per_dim"] = nll.mean() / (prod(self.sizes.image_shape) * math.log(2))
        pairs = zip(self.stages[:-1], convergence, strict=False)
        return values | {f"nll_at_{k}": at_k.mean() for k, at_k in pairs}


def _check_chunk(chunk: int | str) -> int | None:
    if chunk == "auto":
        return None
    if isinstance(chunk, str):
        raise ConfigError(f"metric.test.nll.chunk={chunk}: must be auto or a whole number of at least 1")
    return check_int("metric.test.nll.chunk", chunk)
