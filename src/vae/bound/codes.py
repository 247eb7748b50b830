"""Latents that are codes: z stands for n choices among K each, so that q(z|x) and p(z) are probabilities.

A code c = (c₁, …, c_n), with c_i in 0, …, K − 1, is z = e(c): n vectors that the decoder takes, one after the
other. Where x has one code c(x), q(z|x) is 1 there, and KL(q‖p) = −log p(c(x)). So

log p(x) = log Σ_c p(x|c) p(c) ≥ log p(x|c(x)) + log p(c(x)) = −(distortion + rate),

a bound like that of every other posterior (van den Oord et al. 2017, Neural discrete representation learning,
section 3.2, where p(c) is uniform and the rate n ln K).
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Size, Tensor
from torch.distributions import Categorical, Distribution, Independent, constraints
from torch.distributions.kl import register_kl

Shape = Size | list[int] | tuple[int, ...]


@dataclass(frozen=True)
class Codes:
    """What a code is made of: choices on a grid, in raster order, each among `classes`; a vector has height 1.

    one_hot: whether z = e(c) is the choices as one-hot vectors.
    """

    height: int
    width: int
    classes: int
    one_hot: bool = False

    @property
    def count(self) -> int:
        """n, the choices of a code."""
        return self.height * self.width


@runtime_checkable
class Codebook(Protocol):
    """c → z = e(c), and back."""

    @property
    def codes(self) -> Codes | None:
        """What c is made of."""

    def vectors(self, codes: Int64[Tensor, "*N n"]) -> Float[Tensor, "*N D"]:
        """z of codes."""

    def codes_of(self, z: Float[Tensor, "*N D"]) -> Int64[Tensor, "*N n"]:
        """Return the codes of z, or where there is none for z, those of what is nearest."""


class OfCodes(Distribution):
    """The distribution of z = e(c) for c ~ p, of event shape (D,) and the batch shape of p.

    Args:
        p: a distribution over codes, of event shape (n,).
        book: e.
        size: D.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}

    def __init__(self, p: Distribution, book: Codebook, size: int):
        self.p, self.book = p, book
        super().__init__(p.batch_shape, Size((size,)), validate_args=False)

    def log_prob(self, value: Float[Tensor, "*N D"]) -> Float[Tensor, "*N"]:
        """Return log p(c) in nats, at the code of z.

        Of independent choices as one-hot vectors it is Σ_i Σ_k z_ik log p_ik, differentiable in z as in `OneHot`.
        """
        table = _table(self.p)
        if table is not None and self.book.codes is not None and self.book.codes.one_hot:
            return (value * table.flatten()).sum(-1)
        return self.p.log_prob(self.book.codes_of(value))

    def sample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """Draws of z."""
        with torch.no_grad():
            return self.book.vectors(self.p.sample(Size(sample_shape)))


def _table(p: Distribution) -> Float[Tensor, "n K"] | None:
    """Return log p(c_i = k) where the choices are independent."""
    if isinstance(p, Independent) and isinstance(p.base_dist, Categorical):
        return p.base_dist.logits
    return None


class PointCode(Distribution):
    """The one code that x has, of event shape (D,).

    Args:
        z: e(c(x)), with whatever gradient goes to the encoder.
        codes: c(x).
        before: what was replaced by the code's vectors, for the terms of a loss that ask how far it was.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self, z: Float[Tensor, "B D"], codes: Int64[Tensor, "B n"], before: Float[Tensor, "B n d"] | None = None
    ):
        self.z, self.codes, self.before = z, codes, before
        super().__init__(z.shape[:-1], z.shape[-1:], validate_args=False)

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        """z."""
        return self.z

    @property
    def variance(self) -> Float[Tensor, "B D"]:
        """Zero."""
        return torch.zeros_like(self.z)

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """z, again and again."""
        return self.z.expand(self._extended_shape(Size(sample_shape)))

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the log-probability: 0 at z, −∞ elsewhere."""
        at_z = (value == self.z).all(-1)
        return torch.where(at_z, 0.0, -torch.inf).to(self.z.dtype)


class OneHot(Distribution):
    """n independent choices among K, each as a one-hot vector; of event shape (n·K,).

    A draw of noise g ~ Gumbel(0, 1) gives the choice argmax_k (log q_k + g_k), which has probability q_k. Its
    gradient is that of softmax((log q + g) / τ): by itself, as a relaxed draw, or behind a hard one, straight
    through (Jang et al. 2017, Categorical reparameterization with Gumbel-softmax, equation 2 and section 2.2;
    Maddison et al. 2017).

    Args:
        logits: of the choices, up to a constant each.
        temperature: τ.
        relaxed: whether draws are the softmax, which is no code, and not the choice.
        enumerated: whether what serves as draws is every z that there is, one after the other, each to be weighed
            with its probability. For n = 1.
    """

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    has_rsample = True

    def __init__(
        self,
        logits: Float[Tensor, "*B n K"],
        temperature: float = 1.0,
        relaxed: bool = False,
        enumerated: bool = False,
    ):
        self.log_q = logits.log_softmax(-1)
        self.temperature, self.relaxed, self.enumerated = temperature, relaxed, enumerated
        super().__init__(logits.shape[:-2], Size((logits.shape[-2:].numel(),)), validate_args=False)

    @property
    def codes(self) -> Int64[Tensor, "*B n"]:
        """The most probable code."""
        return self.log_q.argmax(-1)

    @property
    def mean(self) -> Float[Tensor, "*B D"]:
        """The probabilities."""
        return self.log_q.exp().flatten(-2)

    @property
    def variance(self) -> Float[Tensor, "*B D"]:
        """q (1 − q)."""
        return self.mean * (1 - self.mean)

    @property
    def weights(self) -> Float[Tensor, "..."]:
        """q(z|x) of every z, where n = 1."""
        return self.log_q.exp().squeeze(-2).movedim(-1, 0)

    def flatter(self, by: float) -> "OneHot":
        """Return the choices with probabilities in proportion to q^(1/by)."""
        return OneHot(self.log_q / by)

    def at(self, gumbel: Float[Tensor, "*S D"]) -> Float[Tensor, "*S D"]:
        """Return the draws of this noise."""
        perturbed = self.log_q + gumbel.unflatten(-1, self.log_q.shape[-2:])
        soft = (perturbed / self.temperature).softmax(-1)
        if self.relaxed:
            return soft.flatten(-2)
        hard = F.one_hot(perturbed.argmax(-1), perturbed.shape[-1]).to(soft.dtype)
        return (hard + (soft - soft.detach())).flatten(-2)  # in this order exactly `hard`

    def rsample(self, sample_shape: Shape = ()) -> Float[Tensor, "..."]:
        """Draws, with the gradient of the relaxed ones."""
        return self.at(gumbel_noise(self._extended_shape(Size(sample_shape)), self.log_q))

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Σ_i log q_i at the choices, linear in one-hot z."""
        return (value * self.log_q.flatten(-2)).sum(-1)


def gumbel_noise(shape: Shape, like: Tensor) -> Float[Tensor, "..."]:
    """−ln E with E ~ Exp(1), which is Gumbel(0, 1)."""
    return -torch.empty(Size(shape), dtype=like.dtype, device=like.device).exponential_().log()


@register_kl(PointCode, OfCodes)
def _rate_of_a_code(q: PointCode, p: OfCodes) -> Float[Tensor, " B"]:
    """−log p(c)."""
    return -p.p.log_prob(q.codes)


@register_kl(OneHot, OfCodes)
def _kl_of_choices(q: OneHot, p: OfCodes) -> Float[Tensor, " B"]:
    """Σ_i Σ_k q_ik (log q_ik − log p_ik)."""
    table = _table(p.p)
    if table is None:
        raise NotImplementedError
    return (q.log_q.exp() * (q.log_q - table)).sum((-2, -1))
