"""The user's own image files, prepared like the images that a model was trained on."""

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import ImageOps

from vae.checks import ConfigError
from vae.data import ImageDataModule
from vae.data.decode import BadImageError, open_image
from vae.data.encoded_images import EncodedImages


def read_images(patterns: Sequence[str], data: ImageDataModule) -> list[Any]:
    """Return the images of these files or globs, cropped and resized as `data` does with its own files.

    A data set that does not come from image files (digits, MNIST) resizes nothing, so the size must match.

    Raises:
        ConfigError: there is no such file, or it is not an image that can be used.
    """
    paths = [path for pattern in patterns for path in _matches(pattern)]
    return [_read(path, data) for path in paths]


def _matches(pattern: str) -> list[Path]:
    if Path(pattern).is_file():
        return [Path(pattern)]
    found = [Path(path) for path in sorted(glob.glob(pattern)) if Path(path).is_file()]
    if not found:
        raise ConfigError(f"images={pattern}: there is no such file")
    return found


def _read(path: Path, data: ImageDataModule) -> Any:
    try:
        if isinstance(data, EncodedImages):
            return data.transform(path.read_bytes())
        with open_image(path) as opened:
            image = ImageOps.exif_transpose(opened)
            width, height = image.size
            if (height, width) != data.image_shape[1:]:
                raise ConfigError(
                    f"images={path}: {height}×{width} pixels, but this model takes"
                    f" {data.image_shape[1]}×{data.image_shape[2]}"
                )
            return image
    except (BadImageError, OSError) as error:
        raise ConfigError(f"images={path}: {error}") from error
