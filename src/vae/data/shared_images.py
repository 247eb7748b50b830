"""What the jobs of one sweep read only once: the images that they share."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from vae.data.image_data import ImageDataModule

SERVING = ("batch_size", "eval_batch_size", "val_size", "binarize", "seed", "train_images", "device")
"""Options that say how images are split and handed out, and not which they are."""

_kept: list[tuple[Any, dict[str, Any]]] = []


def share_images(data: ImageDataModule, config: DictConfig) -> None:
    """Let a data module use what the last one in this process has read, if both read the same.

    Otherwise what was kept is let go, so that never more than one set of images is.

    Args:
        data: before its `setup`.
        config: its config.
    """
    options = OmegaConf.to_container(config, resolve=True)
    assert isinstance(options, dict)
    source = {name: value for name, value in options.items() if name not in SERVING}
    if not _kept or _kept[0][0] != source:
        _kept[:] = [(source, data.memory)]
    data.memory = _kept[0][1]


def forget_images() -> None:
    """Let go of what is kept."""
    _kept.clear()
