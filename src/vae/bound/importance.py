"""Importance sampling of log p(x), in memory that depends neither on the number of draws nor on that of images."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Size, Tensor
from torch.distributions import Distribution

from vae.bound.codes import OneHot
from vae.bound.pareto import pareto_k, tail_size
from vae.bound.terms import LatentVariableModel
from vae.checks import check_choice
from vae.progress import advance

ELEMENTS = {"cpu": 2**20, "cuda": 2**27}
"""Decoder outputs that are in memory at a time: on a CPU what its caches hold, on a GPU what keeps it busy."""


PROPOSALS = ("posterior", "defensive")
GROUPS = 16
"""Of draws, whose spread says how well an estimate is known; a power of two."""


@dataclass(frozen=True)
class LogMarginal:
    """log p(x) in nats for each of B images, from k draws, in float64.

    log_px: the estimate. stderr: its Monte Carlo standard error. ess: the effective sample size
    (Σw)² / Σw² of the draws. pareto_k: k̂, the shape of the largest weights' distribution, see `vae.bound.pareto`.
    doublings: by how much the last doubling of k raised the estimate, and the last but one. convergence: the
    estimate from the first 1, 10, 100, … and from all k of the same draws, by their number.
    """

    log_px: Float[Tensor, " B"]
    stderr: Float[Tensor, " B"]
    ess: Float[Tensor, " B"]
    pareto_k: Float[Tensor, " B"]
    doublings: Float[Tensor, "B 2"]
    convergence: dict[int, Float[Tensor, " B"]]


def log_marginal(
    model: LatentVariableModel,
    x: Float[Tensor, "B C H W"],
    q: Distribution,
    k: int,
    chunk: int | None = None,
    proposal: str = "posterior",
    label: Int64[Tensor, " B"] | None = None,
) -> LogMarginal:
    """Return log p(x) of each image in nats, estimated by importance sampling with exactly k draws.

    log (1/k) Σ_k w_k with w_k = p(x|z_k) p(z_k) / r(z_k|x) (Burda et al. 2016, section 5), encoding once,
    accumulated in float64. A lower bound in expectation, tight as k grows.

    Args:
        model: p(x|z) and p(z).
        x: images.
        q: q(z|x), of batch shape (B,).
        k: draws for each image.
        chunk: draws that are taken at a time; None for what fits in little memory.
        proposal: r, where the draws come from: q (`posterior`), or a mixture that misses nothing (`defensive`, see
            `Defensive`).
        label: y of each image, of a model that is told it: then it is log p(x|y).
    """
    keep_freed_memory()
    check_choice("proposal", proposal, PROPOSALS)
    p, elements = model.p_z(), ELEMENTS.get(x.device.type, ELEMENTS["cuda"])
    source: Distribution | Defensive = Defensive(q, p) if proposal == "defensive" else q
    # A function of sizes alone, so that it is the same everywhere.
    chunk = chunk or max(1, min(elements // (len(x) * q.event_shape.numel()), elements // model.params_per_draw))
    weights = RunningWeights(len(x), k, x.device)
    for stage in stages(k):
        while weights.drawn < stage:
            z = source.rsample(Size((min(chunk, stage - weights.drawn),)))  # (K, B, D)
            images = max(1, elements // (len(z) * model.params_per_draw))
            parts = x.split(images)
            labels = [None] * len(parts) if label is None else label.split(images)
            log_joint = [
                model.decode(some_z, some_label).log_prob(some_x) + p.log_prob(some_z)
                for some_x, some_z, some_label in zip(parts, z.split(images, dim=1), labels, strict=True)
            ]
            weights.add(torch.cat(log_joint, 1) - source.log_prob(z))
        weights.note()
    return weights.result()


def exact(log_joint: Float[Tensor, "B S"], k: int) -> LogMarginal:
    """Return log p(x) = log Σ_z p(x, z) where every z is there: as k draws without error would give it.

    Args:
        log_joint: log p(x, z) of each image and z.
        k: the draws that were asked for.
    """
    log_px = log_joint.double().logsumexp(1)
    same = dict.fromkeys(stages(k), log_px)
    zero = torch.zeros_like(log_px)
    return LogMarginal(log_px, zero, zero + k, zero, torch.stack((zero, zero), 1), same)


class Defensive:
    """r(z|x) = ½ q(z|x) + ¼ q₂(z|x) + ¼ p(z), with q₂ the posterior at twice the distance from its mean.

    Of choices q₂ ∝ q^½, since a choice has no distance.

    A weight is at most four times p(x|z), however narrow q is and whatever modes it misses, at the price of twice
    the draws where q is right (Hesterberg 1995, Weighted average importance sampling and defensive mixture
    distributions). Where the prior's draws seldom hit what q misses, as with many latents, it may be missed still.

    Args:
        q: q(z|x), of batch shape (B,).
        p: p(z).
    """

    SHARES = (0.5, 0.25, 0.25)
    WIDER = 2.0

    def __init__(self, q: Distribution, p: Distribution):
        self.q, self.p = q, p
        self.wide = q.flatter(self.WIDER) if isinstance(q, OneHot) else Stretched(q, self.WIDER)
        self.event_shape = q.event_shape

    def rsample(self, sample_shape: Size) -> Float[Tensor, "K B D"]:
        """Draws, each from a part of the mixture that is drawn for it."""
        shape = Size((*sample_shape, *self.q.batch_shape))
        own, wide = self.q.rsample(sample_shape), self.wide.rsample(sample_shape)
        part = torch.rand(shape, dtype=own.dtype, device=own.device).unsqueeze(-1)
        outside = torch.where(
            part < self.SHARES[0] + self.SHARES[1], wide, self.p.sample(Size((shape.numel(),))).view(own.shape)
        )
        return torch.where(part < self.SHARES[0], own, outside)

    def log_prob(self, value: Float[Tensor, "K B D"]) -> Float[Tensor, "K B"]:
        """Return the log-density of the mixture."""
        parts = torch.stack([of.log_prob(value) for of in (self.q, self.wide, self.p)])
        return (parts + parts.new_tensor(self.SHARES).log()[:, None, None]).logsumexp(0)


class Stretched:
    """q at `by` times the distance from its mean.

    Args:
        q: of batch shape (B,) and event shape (D,).
        by: a factor.
    """

    def __init__(self, q: Distribution, by: float):
        self.q, self.by, self.centre = q, by, q.mean

    def rsample(self, sample_shape: Size) -> Float[Tensor, "K B D"]:
        """Draws."""
        return self.centre + self.by * (self.q.rsample(sample_shape) - self.centre)

    def log_prob(self, value: Float[Tensor, "K B D"]) -> Float[Tensor, "K B"]:
        """Return the log-density."""
        narrowed = self.centre + (value - self.centre) / self.by
        return self.q.log_prob(narrowed) - self.q.event_shape.numel() * math.log(self.by)


class RunningWeights:
    """Importance weights that come a few at a time: their sums in float64, in groups, and the largest of them.

    The weights of a group are kept relative to its largest so far, so that each needs one exponential and none
    overflows.

    Args:
        images: B.
        k: draws for each that will come.
        device: where.
    """

    def __init__(self, images: int, k: int, device: torch.device):
        self.drawn, self.k = 0, k
        self.groups = min(GROUPS, 2 ** (k.bit_length() - 1))
        self._sum = torch.zeros(self.groups, images, dtype=torch.float64, device=device)
        self._sum_of_squares = self._sum.clone()
        self._log_largest = torch.full_like(self._sum, torch.finfo(torch.float64).min)
        self._top = self._sum.new_empty(0, images)
        self.convergence: dict[int, Float[Tensor, " B"]] = {}

    def add(self, log_w: Float[Tensor, "K B"]) -> None:
        """Add the log-weights of K further draws, which are dealt to the groups in turn."""
        advance(log_w.numel())
        self._top = torch.cat((self._top, log_w.double())).topk(
            min(tail_size(self.k) + 1, len(self._top) + len(log_w)), 0
        )[0]
        before = self.drawn % self.groups
        after = -(before + len(log_w)) % self.groups
        self.drawn += len(log_w)
        padded = torch.nn.functional.pad(log_w, (0, 0, before, after), value=-math.inf)
        dealt = padded.unflatten(0, (-1, self.groups))  # (turns, groups, B)
        largest = torch.maximum(self._log_largest, dealt.amax(0))
        shrunk = (self._log_largest - largest).exp()
        w = (dealt - largest).exp_()
        self._sum = self._sum * shrunk + w.sum(0)
        self._sum_of_squares = self._sum_of_squares * shrunk.square() + w.square_().sum(0)
        self._log_largest = largest

    @property
    def _log_sums(self) -> Float[Tensor, "G B"]:
        return self._log_largest + self._sum.log()

    @property
    def log_mean(self) -> Float[Tensor, " B"]:
        """log of the mean weight so far."""
        return self._log_sums.logsumexp(0) - math.log(self.drawn)

    def note(self) -> None:
        """Note the estimate so far in `convergence`."""
        self.convergence[self.drawn] = self.log_mean

    def result(self) -> LogMarginal:
        """Return the estimate from all weights.

        Its standard error is the spread of the estimates of G groups of k/G draws, brought to k draws by the rate
        at which a mean converges: G^{−½}, or G^{−(1 − k̂)} where the weights' tail is so heavy (k̂ > ½) that they
        have no variance. It is not known from a single draw (NaN). The usual one, by the variance of the weights
        that were drawn, is too small just where it matters, as those that carry the mean have not been drawn.
        """
        log_sums = self._log_sums
        squares = (2 * self._log_largest + self._sum_of_squares.log()).logsumexp(0)
        ess = (2 * log_sums.logsumexp(0) - squares).exp()
        shape = pareto_k(self._top, self.k)
        means = self._log_means(log_sums)
        spread = means.std(0) if self.groups > 1 else torch.full_like(ess, math.nan)
        rate = 1 - shape.nan_to_num(0.5).clamp(0.5, 1)
        doublings = self._doublings(log_sums)
        return LogMarginal(self.log_mean, spread * self.groups**-rate, ess, shape, doublings, self.convergence)

    def _log_means(self, log_sums: Float[Tensor, "G B"]) -> Float[Tensor, "G B"]:
        """Return the log means of groups, each of which takes every so many of the draws."""
        groups = len(log_sums)
        sizes = torch.tensor([len(range(first, self.k, groups)) for first in range(groups)])
        return log_sums - sizes.to(log_sums).log()[:, None]

    def _doublings(self, log_sums: Float[Tensor, "G B"]) -> Float[Tensor, "B 2"]:
        """Return the mean estimate from all, minus that from each half; from each half, minus that from each
        quarter.
        """
        found = [self._log_means(log_sums).mean(0)]
        while len(log_sums) > 1:
            log_sums = log_sums.unflatten(0, (2, -1)).logsumexp(0)
            found.append(self._log_means(log_sums).mean(0))
        raised = [after - before for before, after in pairwise(found)]
        unknown = torch.full_like(found[0], math.nan)
        return torch.stack([*reversed(raised), unknown, unknown][:2], 1)


def remaining_bias(doublings: Float[Tensor, "N 2"]) -> Float[Tensor, ""]:
    """By how much log p(x), a mean over images, is still too low, from what doubling k has raised it by.

    A bias that falls as 1/k falls by as much as is left in each doubling. With a heavy tail it falls more slowly,
    at a rate r a doubling that the last two show, and r / (1 − r) times the last is left (r from ½ to 0.9).
    """
    last, before = doublings.mean(0).clamp(min=0)
    r = torch.where(before > 0, last / before, last.new_tensor(0.5)).nan_to_num(0.5).clamp(0.5, 0.9)
    return last.nan_to_num(0.0) * r / (1 - r)


def stages(k: int) -> list[int]:
    """1, 10, 100, … below k, then k."""
    return [10**power for power in range(len(str(k))) if 10**power < k] + [k]


def keep_freed_memory() -> None:
    """Make glibc's malloc keep the memory of freed tensors for the next tensors.

    By default, malloc returns freed memory to the system if the tensor is at least as large as the largest one
    that it has seen. On a CPU, every operation on megabytes then asks for its pages again, which was measured to
    take as long as the operation itself. malloc learns this size from what is freed. Here it frees 31 MiB that are
    never used.
    """
    torch.empty(31 * 2**20, dtype=torch.uint8)
