"""Images in any usual form, converted to x as the model takes it.

The forms are arrays, tensors and PIL images, of bytes or floats, one or many.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vae.checks import ConfigError
from vae.data.decode import MAX_PIXELS, WHITE, BadImageError, to_rgb

Images = Any
"""A NumPy array, a tensor, a PIL image, or a list of any of these; (H, W), (H, W, C), (C, H, W) or a batch."""


def as_tensor(
    images: Images, image_shape: tuple[int, int, int], background: tuple[int, int, int] = WHITE
) -> UInt8[Tensor, "B C H W"] | Float[Tensor, "B C H W"]:
    """Return one image or many as a batch, in bytes or as floats in [0, 1], as they were given.

    Args:
        images: a single image is taken as a batch of one. Without a channel axis it is grey; NumPy arrays and
            tensors may have their channels first or last.
        image_shape: (C, H, W), what the model takes.
        background: the colour behind transparent parts of a PIL image.

    Raises:
        ConfigError: the images have another size, number of channels, type or range.
    """
    if isinstance(images, Sequence) and not isinstance(images, str):
        if not images:
            raise ConfigError("images: an empty list; give at least one image")
        return torch.cat([as_tensor(image, image_shape, background) for image in images])
    batch = _channels_first(_to_tensor(images, image_shape[0], background), image_shape)
    if batch.dtype == torch.uint8:
        return batch
    return _check_range(batch)


def _to_tensor(images: Images, channels: int, background: tuple[int, int, int]) -> Tensor:
    if isinstance(images, Image.Image):
        if images.width * images.height > MAX_PIXELS:
            # So far, only the header of an opened image has been read.
            raise ConfigError(f"images: {images.width}×{images.height} pixels, more than {MAX_PIXELS:,}")
        # An image with a palette, with 1 or 16 bits or with transparency is converted to what it shows.
        try:
            shown = to_rgb(images, background)
        except BadImageError as error:
            raise ConfigError(f"images: {error}") from error
        return torch.from_numpy(np.array(shown.convert("L") if channels == 1 else shown))
    if isinstance(images, np.ndarray):
        # A writable copy, in this machine's byte order.
        values = np.array(images, dtype=images.dtype.newbyteorder("="), order="C")
        try:
            return torch.from_numpy(values)
        except TypeError as error:
            raise ConfigError(
                f"images of type {images.dtype}: must be uint8 in 0…255 or floats in [0, 1]"
            ) from error
    if isinstance(images, Tensor):
        return images.detach()
    raise ConfigError(
        f"images: {type(images).__name__} is no image; give a NumPy array, a tensor, a PIL image or a list of them"
    )


def _channels_first(images: Tensor, image_shape: tuple[int, int, int]) -> Tensor:
    """Return images as (B, C, H, W), from the layout whose sizes are those that the model takes."""
    channels, height, width = image_shape
    shape = tuple(images.shape)
    if channels == 1 and shape[-2:] == (height, width) and len(shape) in (2, 3):
        return images.reshape(-1, 1, height, width)
    if shape[-3:] == image_shape and len(shape) in (3, 4):
        return images.reshape(-1, *image_shape)
    if shape[-3:] == (height, width, channels) and len(shape) in (3, 4):
        return images.reshape(-1, height, width, channels).permute(0, 3, 1, 2).contiguous()
    raise ConfigError(
        f"images of shape {'×'.join(map(str, shape))}: this model takes images of"
        f" {channels}×{height}×{width} (channels × height × width), one or a batch"
    )


def _check_range(images: Tensor) -> Float[Tensor, "B C H W"]:
    if images.dtype == torch.bool:
        return images.float()
    if not images.is_floating_point():
        raise ConfigError(f"images of type {images.dtype}: must be uint8 in 0…255 or floats in [0, 1]")
    if not images.isfinite().all():
        raise ConfigError("images: hold NaN or infinite numbers")
    if images.numel() and (images.min() < 0 or images.max() > 1):
        raise ConfigError(
            f"images of floats from {images.min():g} to {images.max():g}: must be in [0, 1], or uint8 in 0…255"
        )
    return images.float()
