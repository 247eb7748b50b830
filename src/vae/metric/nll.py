"""The importance-sampled likelihood, as a mean over images, with its uncertainty."""

import math
from math import prod

import torch
from lightning import Trainer
from torch import Tensor

from vae.bound.importance import PROPOSALS, remaining_bias, stages
from vae.bound.pareto import UNRELIABLE
from vae.checks import ConfigError, check_choice, check_int
from vae.data import ImageDataModule
from vae.metric.evaluated_batch import EvaluatedBatch, Sizes
from vae.metric.per_image import PerImage, standard_error
from vae.progress import task
from vae.random import draw_key, set_draws

MOST, FIXED = 100, 10
"""Draws that `k=auto` takes at most, and where nothing but a clock says how long the training is."""
POOR = 0.1
"""An image counts as poorly estimated where its ESS is below this part of the median ESS."""


class NLL(PerImage):
    """nll = −log p(x) by importance sampling with exactly k draws, a mean over images in nats.

    Of a model whose networks are told the label y of each image it is −log p(x|y).

    An upper bound in expectation, which falls to the exact value as k grows (Burda et al. 2016, theorem 1).
    With it come

    * `nll_k`: k;
    * `nll_stderr`: the standard error of the mean over images, as a sample of all images;
    * `nll_mc_stderr`: how far nll may be from exact as the k draws are finitely many: the spread of groups of
      draws and the bias that doubling k has not yet removed, see `vae.bound.importance`;
    * `nll_pareto_k`: the median over images of k̂, and `nll_pareto_k_high`: the share of images above 0.7, whose
      weights are so uneven that nll is not to be relied on, see `vae.bound.pareto` (from 25 draws on);
    * `nll_ess`: the mean effective sample size (Σw)² / Σw² of the draws, out of k;
    * `nll_poor`: the share of images whose ESS is below a tenth of the median;
    * `nll_at_1`, `nll_at_10`, …: the value from the first 1, 10, … of the same draws;
    * `nll_bits_per_dim` = nll / (C·H·W·ln 2), for discrete likelihoods only.

    Args:
        sizes: of the model.
        k: draws of z for each image, or `auto` for as many as cost a fifth of the planned training at most, see
            `quick_k`.
        chunk: draws that are decoded at a time, or `auto` for what fits in little memory.
        proposal: where they come from, `posterior` or `defensive`: see `vae.bound.importance.Defensive`.
    """

    def __init__(self, sizes: Sizes, k: int | str, chunk: int | str = "auto", proposal: str = "posterior"):
        super().__init__(estimates=torch.empty(0))
        self.proposal = check_choice("metric.test.nll.proposal", proposal, PROPOSALS)
        self.sizes, self.chunk, self.chooses = sizes, _check_chunk(chunk), k == "auto"
        self._draw(MOST if k == "auto" else check_int("metric.test.nll.k", k))

    @property
    def estimates_more(self) -> bool:
        """Whether draws tell more than the ELBO does, as they do not where all draws of an image are one."""
        return self.sizes.has_density and not self.sizes.deterministic

    def _draw(self, k: int) -> None:
        """From now on take k draws."""
        self.k, self.stages = k, stages(k)
        self.empty["estimates"] = torch.empty(0, 5 + len(self.stages), dtype=torch.float64)
        self.reset()

    def take_data(self, data: ImageDataModule) -> None:
        """With `k=auto`, choose k by how long the model was to be trained."""
        if self.chooses and data.trainer is not None and data.trainer.global_step:
            planned = planned_images(data.trainer, len(data.subsets["train"]), data.batch_size)
            self._draw(FIXED if planned is None else quick_k(planned, len(data.subsets[data.tested_split])))

    def update(self, batch: EvaluatedBatch) -> None:
        """Add one batch."""
        if not self.estimates_more:
            return
        set_draws(draw_key("nll", batch.key), batch.x.device)
        with task(f"nll from {self.k:,} draws", len(batch.x) * self.k):
            estimate = batch.model.log_marginal(batch.x, self.k, self.chunk, batch.q, self.proposal, batch.label)
        nll = [-estimate.convergence[k] for k in self.stages]
        others = [estimate.stderr, estimate.ess, estimate.pareto_k, *estimate.doublings.unbind(1)]
        self.add(batch.first, estimates=torch.stack([*others, *nll], 1))

    def compute(self) -> dict[str, Tensor]:
        """Return the mean so far, and its uncertainty; nothing where q(z|x) is a point or a single code."""
        if not self.estimates_more:
            return {}
        spread, ess, shape, *rest = self.rows("estimates").unbind(1)
        doublings, convergence = torch.stack(rest[:2], 1), rest[2:]
        nll = convergence[-1]
        values = {
            "nll": nll.mean(),
            "nll_stderr": standard_error(nll),
            "nll_mc_stderr": torch.hypot(spread.square().sum().sqrt() / len(nll), remaining_bias(doublings)),
            "nll_ess": ess.mean(),
            "nll_poor": (ess < POOR * ess.median()).double().mean(),
            "nll_k": nll.new_tensor(self.k),
        }
        if not shape.isnan().all():
            values |= {
                "nll_pareto_k": shape.nanmedian(),
                "nll_pareto_k_high": (shape > UNRELIABLE).double().mean(),
            }
        if self.sizes.discrete:
            values["nll_bits_per_dim"] = nll.mean() / (prod(self.sizes.image_shape) * math.log(2))
        pairs = zip(self.stages[:-1], convergence, strict=False)
        return values | {f"nll_at_{k}": at_k.mean() for k, at_k in pairs}


def planned_images(trainer: Trainer, images: int, batch_size: int) -> int | None:
    """Return how many images a whole training sees, each as often as it is seen; None if only time limits it.

    It is the plan and not what became of it, so that early stopping changes no k.
    """
    per_epoch, limit = max(images // batch_size, 1), trainer.limit_train_batches
    per_epoch = min(per_epoch, limit) if isinstance(limit, int) else int(per_epoch * (limit or 1))
    epochs = trainer.max_epochs or -1
    lengths = [epochs * per_epoch] if epochs > 0 else []
    if trainer.max_steps > 0:
        lengths.append(trainer.max_steps * trainer.accumulate_grad_batches)
    return min(lengths) * min(batch_size, images) if lengths else None


def quick_k(trained: int, tested: int) -> int:
    """Return the largest of 1, 2, 5, 10, 20, 50 and 100 draws that take a fifth of the training's arithmetic
    at most.

    A training step costs three times its forward pass, and a draw no more than a forward pass. So the number
    follows from sizes alone, is the same for all models that are trained equally long on the same images, whatever
    the machine, and stands beside the estimate as `nll_k`. Where a sweep varies how long, its jobs take `FIXED`.

    Args:
        trained: images that the training sees, each as often as it is seen.
        tested: images whose likelihood is estimated.
    """
    allowed = 3 * trained / 5 / max(tested, 1)
    return max((k for k in (1, 2, 5, 10, 20, 50, MOST) if k <= allowed), default=1)


def _check_chunk(chunk: int | str) -> int | None:
    if chunk == "auto":
        return None
    if isinstance(chunk, str):
        raise ConfigError(f"metric.test.nll.chunk={chunk}: must be auto or a whole number of at least 1")
    return check_int("metric.test.nll.chunk", chunk)
