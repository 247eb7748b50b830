"""The decoding of a sequence of images: on all cores, in order, in bounded memory."""

import os
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from PIL import Image
from torch import Tensor

from vae.data.decode import BadImageError, Transform
from vae.data.image_files import ImageFiles

CHUNK = 64
"""The number of images that a thread decodes before it hands them over."""


def decode_all(
    files: ImageFiles, transform: Transform, threads: int | None = None
) -> Iterator[tuple[int, Tensor | BadImageError]]:
    """Yield the position and the pixels of each image, in order, or the reason why the image is bad.

    Threads do the work, because reading, decoding and resizing all release the interpreter's lock. Threads need
    neither start-up time nor copies between processes. At most four chunks per thread are in memory.

    Args:
        files: the encoded images.
        transform: what is done to each image.
        threads: the number of threads; None for one for each core that this process may use.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    threads = threads or cores or 1
    torch_threads = torch.get_num_threads()
    pending: deque[Future[list[tuple[int, Tensor | BadImageError]]]] = deque()
    with warnings.catch_warnings(), ThreadPoolExecutor(threads, initializer=_one_torch_thread) as pool:
        # Pillow only warns about images of up to twice its limit.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", "The image decoding and encoding capabilities of TorchVision are depr")
        try:
            for start in range(0, len(files), CHUNK):
                chunk = range(start, min(start + CHUNK, len(files)))
                pending.append(pool.submit(_decode_chunk, files, transform, chunk))
                if len(pending) == 4 * threads:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            torch.set_num_threads(torch_threads)


def _one_torch_thread() -> None:
    """Keep torch from splitting each small image over the cores, since each core already has an image."""
    torch.set_num_threads(1)


def _decode_chunk(
    files: ImageFiles, transform: Transform, chunk: range
) -> list[tuple[int, Tensor | BadImageError]]:
    decoded: list[tuple[int, Tensor | BadImageError]] = []
    for position in chunk:
        try:
            decoded.append((position, transform(files.read(position))))
        except BadImageError as bad:
            decoded.append((position, bad))
    return decoded
