"""Speed and memory of the importance-sampled NLL.

The model is 784-200-200-50 with a Bernoulli likelihood. The time of `log_marginal` is compared with that of
nothing but its decoder's matrix products on as many rows, in chunks of the size that suits them best, and with a
naive loop that takes one image and ten draws at a time and encodes each time. The times are the processor's, with
one thread, in turns, and the best of several, so that other work on the machine matters less.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vae.likelihood.bernoulli import Bernoulli
from vae.model import LatentModel
from vae.network.mlp import MLPDecoder, MLPEncoder
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.prior.standard_normal import StandardNormal

HIDDEN, ACTIVATION = (200, 200), "relu"
ROWS = (256, 512, 1024, 2560)
"""The numbers of rows that the products alone may take at a time."""
IMAGES, DRAWS = 100, 5000
"""The images and draws for which the time is measured.

The draws are those of a published NLL, and the images are enough for half a million draws.
"""
NAIVE_IMAGES = 2
"""The number of images of the naive loop, which takes them one by one."""
MEMORY_CASES = ((500, 100), (500, 5000), (2000, 100))
"""The images and draws for which peak memory is measured."""


def build() -> LatentModel:
    """Return the model, with random weights, in evaluation mode."""
    model = LatentModel(
        (1, 28, 28),
        50,
        partial(MLPEncoder, hidden_sizes=HIDDEN, activation=ACTIVATION),
        partial(MLPDecoder, hidden_sizes=HIDDEN, activation=ACTIVATION),
        DiagonalGaussian,
        StandardNormal,
        Bernoulli,
    )
    return model.eval()


@torch.no_grad()
def products(model: LatentModel, rows: int, total: int) -> None:
    """Compute the decoder's products of `total` rows, `rows` at a time."""
    layers = [layer for layer in model.decoder.modules() if isinstance(layer, torch.nn.Linear)]
    inputs = [torch.randn(rows, layer.in_features) for layer in layers]
    for _ in range(total // rows):
        for layer, given in zip(layers, inputs, strict=True):
            torch.addmm(layer.bias, given, layer.weight.T)


def naive(model: LatentModel, x: Tensor, k: int) -> None:
    """Estimate with one image at a time and ten draws at a time, and encode each time."""
    for image in x:
        torch.cat([model.log_marginal(image[None], 10).log_px for _ in range(k // 10)])


def best_seconds(works: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the least processor seconds of each work. The works take turns."""
    best = dict.fromkeys(works, float("inf"))
    for _ in range(repeats):
        for name, work in works.items():
            started = time.process_time()
            work()
            best[name] = min(best[name], time.process_time() - started)
    return best


def measure(images: int = IMAGES, k: int = DRAWS, repeats: int = 7) -> dict[str, float]:
    """Return the microseconds per image and draw of the NLL, of the products and of the naive loop.

    The ratios of NLL to products and of naive loop to NLL are returned too.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    model, x = build(), torch.rand(images, 1, 28, 28).round()
    few, total = min(NAIVE_IMAGES, images), images * k
    works: dict[str, Callable[[], object]] = {
        "nll": lambda: model.log_marginal(x, k),
        "naive": lambda: naive(model, x[:few], k),
    }
    works |= {f"products {rows}": partial(products, model, rows, total // 4) for rows in ROWS}
    seconds = best_seconds(works, repeats)
    torch.set_num_threads(threads)
    nll = seconds["nll"] / total
    alone = min(seconds[f"products {rows}"] / (total // 4 // rows * rows) for rows in ROWS)
    loop = seconds["naive"] / (few * k)
    return {
        "images": images,
        "k": k,
        "nll_microseconds": nll * 1e6,
        "products_microseconds": alone * 1e6,
        "naive_microseconds": loop * 1e6,
        "nll_over_products": nll / alone,
        "naive_over_nll": loop / nll,
    }


def peak_memory() -> dict[tuple[int, int], float]:
    """Return the peak memory in MiB by (images, draws), each measured in its own process."""
    return {case: _peak_memory_of(*case) for case in MEMORY_CASES}


def _peak_memory_of(images: int, k: int) -> float:
    command = [sys.executable, "-m", "benchmarks.likelihood", "--memory-of", str(images), str(k)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _print_memory(images: int, k: int) -> None:
    """Estimate in batches of 500, as `python -m vae.evaluate` does, and print this process's peak memory."""
    torch.set_num_threads(1)
    model = build()
    for _ in range(images // 500):
        model.log_marginal(torch.rand(500, 1, 28, 28).round(), k)
    # On Linux, getrusage starts with the peak of the parent process.
    peak = next(
        line
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        if line.startswith("VmHWM")
    )
    print(int(peak.split()[1]) / 2**10)


def main() -> None:
    """Print the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--k", type=int, default=DRAWS)
    parser.add_argument("--memory-of", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        _print_memory(*arguments.memory_of)
        return
    m = measure(arguments.images, arguments.k)
    print(f"NLL            {m['nll_microseconds']:7.2f} µs per image and draw")
    print(f"products alone {m['products_microseconds']:7.2f} µs: the NLL takes {m['nll_over_products']:.2f} ×")
    print(f"naive loop     {m['naive_microseconds']:7.2f} µs: {m['naive_over_nll']:.1f} × the NLL")
    for (images, k), peak in peak_memory().items():
        print(f"peak memory    {peak:7.0f} MiB for {images:,} images, k = {k}")


if __name__ == "__main__":
    main()
