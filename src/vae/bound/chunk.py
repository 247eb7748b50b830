"""Draws that are decoded a few at a time, in the memory of a few."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributions import Distribution
from torch.utils.checkpoint import checkpoint

from vae.bound.terms import LatentVariableModel, Terms, scalable

NORMS_OF_BATCHES = (nn.BatchNorm1d, nn.BatchNorm2d)


def terms_in_chunks(
    model: LatentVariableModel,
    x: Float[Tensor, "B C H W"],
    q: Distribution,
    noise: Float[Tensor, "K B E"],
    chunk: int | None,
    densities: bool,
    draws: bool,
    scales_paths: bool = False,
    label: Int64[Tensor, " B"] | None = None,
) -> Terms:
    """Return the terms of all draws, decoded `chunk` of them at a time.

    What lies between the noise and the log-densities is not kept for the backward pass but computed a second time
    there, so that memory is that of one chunk. Values and gradients are those of all draws at once.

    Args:
        model: p(x|z), p(z) and the draws.
        x: images.
        q: q(z|x) of each.
        noise: ε of all draws.
        chunk: the number of draws that are decoded at a time; None for all.
        densities: whether log p(z) and log q(z|x) of each draw will be asked for.
        draws: whether z itself will be: then all draws are made at once, and only decoded in chunks.
        scales_paths: whether their gradients are multiplied, see `vae.bound.terms.scalable`; only with `draws`.
        label: of each image, for the parts of the model that are told it.
    """
    p = model.p_z(label)
    made = model.draw(q, noise) if draws else None
    scale = None
    if scales_paths and made is not None:
        made, scale = scalable(made)

    def some(part: Tensor) -> tuple[Tensor, ...]:
        z = model.draw(q, part) if made is None else part
        log_px_z = model.decode(z, label).log_prob(x)
        return (log_px_z, p.log_prob(z), q.log_prob(z)) if densities and made is None else (log_px_z,)

    again = _computed_twice(some, model) if torch.is_grad_enabled() else some
    source = noise if made is None else made
    parts = zip(*map(again, source.split(chunk or len(source))), strict=True)
    log_px_z, *of_z = (torch.cat(part) for part in parts)
    return Terms(log_px_z, made, q, p, scale, dict(zip(("log_pz", "log_qz"), of_z, strict=False)), label)


def _computed_twice(
    function: Callable[[Tensor], tuple[Tensor, ...]], model: LatentVariableModel
) -> Callable[[Tensor], tuple[Tensor, ...]]:
    modules = model.modules() if isinstance(model, nn.Module) else ()
    norms = [module for module in modules if isinstance(module, NORMS_OF_BATCHES)]
    if not norms:  # torch.compile knows no contexts of a checkpoint
        return lambda part: checkpoint(function, part, use_reentrant=False)
    contexts = lambda: (nullcontext(), _without_statistics(norms))  # noqa: E731
    return lambda part: checkpoint(function, part, use_reentrant=False, context_fn=contexts)


@contextmanager
def _without_statistics(norms: Sequence[nn.BatchNorm1d | nn.BatchNorm2d]) -> Iterator[None]:
    """Inside, batch normalisation leaves its running statistics alone, which the first time has moved already."""
    before = [
        (norm, norm.momentum, None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone())
        for norm in norms
    ]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum, batches in before:
            norm.momentum = momentum
            if batches is not None and norm.num_batches_tracked is not None:
                norm.num_batches_tracked.copy_(batches)
