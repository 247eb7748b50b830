"""Bernoulli p(x|z) for pixels that are 0 or 1."""

from inspect import signature
from math import gcd
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Bernoulli as TorchBernoulli
from torch.distributions import Independent

from vae.internals import in_forward_mode
from vae.likelihood.likelihood import Likelihood


class _LogProbability(torch.autograd.Function):
    """Σ over C, H, W of x ln p + (1 − x) ln(1 − p), for logits l = ln(p / (1 − p)).

    It is Σ [x l − softplus(l)], where softplus(l) = l/2 + |l|/2 − ln σ(|l|). Because σ(|l|) is in [½, 1], the
    product of 16 of them cannot underflow. So one logarithm is enough for 16 pixels, and no pixel needs more than
    one exponential. This is quicker than `binary_cross_entropy_with_logits` and as exact. The gradient with
    respect to l is x − σ(l).
    """

    @staticmethod
    def forward(logits: Tensor, value: Tensor) -> Tensor:
        size = logits.abs()
        log_px = (logits * value).sub_(size, alpha=0.5).sub_(logits, alpha=0.5).sum((-3, -2, -1))
        products = size.sigmoid_().flatten(-3)
        pixels = products.shape[-1]
        together = gcd(pixels, 16)
        return log_px + products.unflatten(-1, (together, pixels // together)).prod(-2).log_().sum(-1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None]:
        logits, value = ctx.saved_tensors
        each = gradient[..., None, None, None]
        to_logits = to_value = None
        if ctx.needs_input_grad[0]:
            p = logits.sigmoid()
            # Work in place if possible, because another tensor pushes weights out of the caches. It is impossible
            # if this is differentiated itself, for a second derivative or within torch.func.grad.
            fits = p.numel() == gradient.numel() * p.shape[-3:].numel() and not torch.is_grad_enabled()
            to_logits = p.sub_(value).mul_(-each) if fits else (value - p) * each
            to_logits = to_logits.sum_to_size(logits.shape)
        if ctx.needs_input_grad[1]:
            to_value = (logits * each).sum_to_size(value.shape)
        return to_logits, to_value

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *tensors: Tensor) -> tuple[Tensor, int]:
        """Apply the function with the mapped axis moved to the front.

        There it is one more axis of the batch.
        """
        axes = max(t.ndim - (dim is not None) for t, dim in zip(tensors, in_dims, strict=True))
        moved = []
        for tensor, dim in zip(tensors, in_dims, strict=True):
            if dim is not None:
                tensor = tensor.movedim(dim, 0)
                tensor = tensor.reshape(len(tensor), *[1] * (axes + 1 - tensor.ndim), *tensor.shape[1:])
            moved.append(tensor)
        return _LogProbability.apply(*moved), 0


# torch asks for the signature at every call. Without this attribute, that takes longer than the rest of the call.
_LogProbability.forward.__signature__ = signature(_LogProbability.forward)  # type: ignore[attr-defined]


class IndependentBernoulli(Independent):
    """Bernoulli pixels whose log-probabilities are summed over C, H, W.

    Args:
        logits: ln(p / (1 − p)) of each pixel.
    """

    def __init__(self, logits: Float[Tensor, "*N C H W"]):
        super().__init__(TorchBernoulli(logits=logits, validate_args=False), 3, validate_args=False)

    def log_prob(self, value: Float[Tensor, "*M C H W"]) -> Float[Tensor, "*L"]:
        """Return log p(value) in nats, over the broadcast batch shapes of the two."""
        logits = self.base_dist.logits
        if torch.compiler.is_compiling():
            # The compiler fuses a plain formula, and within vmap does not know the Function's rule. On a CPU its
            # softplus would take three times as long as the logarithm of σ.
            size = logits.abs()
            each = (value - 0.5) * logits - 0.5 * size + size.sigmoid().log()
            return each.sum((-3, -2, -1))
        if in_forward_mode():  # torch takes second derivatives of a Function with a rule for it to be zero
            return (logits * value - F.softplus(logits)).sum((-3, -2, -1))
        return _LogProbability.apply(logits, value)


class Bernoulli(Likelihood):
    """`likelihood=bernoulli`: log p(x|z) = Σ_pixels [x ln p + (1 − x) ln(1 − p)], p = sigmoid(decoder).

    This is a probability for binarised images (`data.binarize=dynamic|threshold`). On grey values it is the
    cross-entropy that many introductions use. That is not a density over [0, 1], so nothing in bits is reported
    for it. For grey values, use the continuous Bernoulli.

    Args:
        image_shape: (C, H, W).
    """

    support = "binary"

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__(image_shape)

    def forward(self, params: Float[Tensor, "*N C H W"]) -> IndependentBernoulli:
        """Return p(x|z), of event shape (C, H, W)."""
        return IndependentBernoulli(params)

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """Return the decoder output for which the likelihood's mean is `mean`, kept within 0.001 of 0 and 1."""
        return torch.logit(mean, eps=1e-3)
