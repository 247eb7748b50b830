"""Speed of the importance-sampled NLL against the products of its decoder alone, and against a naive loop.

The model is 784-200-200-50 with a Bernoulli likelihood. Printed are the seconds per (image × draw) of the
NLL, of nothing but the decoder's matrix products on the same numbers of rows, and of a loop that takes one
image and ten draws at a time, and their ratios. The times are those of the processor, so that other work on the
machine matters less.
"""

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from vae.importance import auto_chunk
from vae.likelihood.bernoulli import Bernoulli
from vae.model import LatentModel
from vae.network.mlp import MLPDecoder, MLPEncoder
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.prior.standard_normal import StandardNormal

HIDDEN = {"hidden_sizes": [200, 200], "activation": "relu"}


def build() -> LatentModel:
    return LatentModel(
        (1, 28, 28),
        50,
        partial(MLPEncoder, **HIDDEN),
        partial(MLPDecoder, **HIDDEN),
        DiagonalGaussian,
        StandardNormal,
        Bernoulli,
    )


def seconds(work: Callable[[], object]) -> float:
    work()
    started = time.process_time()
    work()
    return time.process_time() - started


@torch.no_grad()
def products(model: LatentModel, images: int, k: int) -> None:
    """The decoder's products, as many as the NLL has, in chunks of the same size."""
    chunk = auto_chunk(images, 784, torch.device("cpu")) * images
    inputs = [torch.randn(chunk, layer.in_features) for layer in linear_layers(model)]
    for _ in range(images * k // chunk):
        for layer, rows in zip(linear_layers(model), inputs, strict=True):
            torch.addmm(layer.bias, rows, layer.weight.T)


def linear_layers(model: LatentModel) -> list[torch.nn.Linear]:
    return [layer for layer in model.decoder.modules() if isinstance(layer, torch.nn.Linear)]


def naive(model: LatentModel, x: Tensor, k: int) -> None:
    """One image at a time, ten draws at a time, encoding each time."""
    for image in x:
        torch.cat([model.log_marginal(image[None], 10).log_px for _ in range(k // 10)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--k", type=int, default=200)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model, n, k = build().eval(), arguments.images, arguments.k
    x = torch.rand(n, 1, 28, 28).round()
    nll = seconds(lambda: model.log_marginal(x, k)) / (n * k)
    alone = seconds(lambda: products(model, n, k)) / (n * k)
    loop = seconds(lambda: naive(model, x[:20], k)) / (20 * k)
    print(f"NLL            {nll * 1e6:7.2f} µs per image and draw: {nll / alone:.2f} × the products alone")
    print(f"products alone {alone * 1e6:7.2f} µs")
    print(f"naive loop     {loop * 1e6:7.2f} µs: {loop / nll:.1f} × the NLL")
    print(f"peak memory    {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10:.0f} MiB")


if __name__ == "__main__":
    main()
