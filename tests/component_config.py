"""One component's file under conf/, with the values that conf/train.yaml says suit the images."""

from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vae.paths import CONF


def component_config(group: str, name: str) -> DictConfig:
    """Give it as composing would for images of which nothing is known."""
    return OmegaConf.create({"suits": _read("train")["suits"], group: _read(f"{group}/{name}")})[group]


@cache
def _read(name: str) -> dict[str, Any]:
    """A file as plain values, its interpolations as text: to read one takes longer than a small model's step."""
    read = OmegaConf.to_container(OmegaConf.load(CONF / f"{name}.yaml"))
    assert isinstance(read, dict)
    return read
