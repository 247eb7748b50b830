"""What a key means to a run or a sweep that was saved before there was such a key."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from vae.cli import CONF

BEFORE = {"init": "torch", "start_from_mean": True}
"""What runs did before there were these keys, where it is not what their default in conf/train.yaml says today."""
NOT_OF_A_RUN = ("defaults", "hydra", "paths")
"""What conf/train.yaml has of how it is composed and where, which says nothing to a saved config."""


def meaning_of_absence() -> dict[str, Any]:
    """Of each key that conf/train.yaml has itself: the value that a run had which was saved without the key."""
    own = OmegaConf.to_container(OmegaConf.load(CONF / "train.yaml"), resolve=False)
    assert isinstance(own, dict)
    return {str(key): value for key, value in own.items() if key not in NOT_OF_A_RUN} | BEFORE


def with_newer_keys(config: DictConfig) -> DictConfig:
    """The config of a run, and what the keys that it lacks meant to it.

    What refers to other keys is left out: only Hydra, which composed them, knew those.
    """
    newer = OmegaConf.create({key: value for key, value in meaning_of_absence().items() if key not in config})
    for key in [str(key) for key in newer if OmegaConf.is_interpolation(newer, str(key))]:
        del newer[key]
    return OmegaConf.merge(newer, config)  # type: ignore[return-value]


def with_meant_keys(saved: dict[str, Any], today: dict[str, Any]) -> dict[str, Any]:
    """The config that the jobs of a sweep shared, and what the keys that it lacks meant to them.

    Args:
        saved: as it was saved, in containers.
        today: what the sweep's own command composes today; a key that this lacks, too, was not newer but left out.
    """
    meant = {key: value for key, value in meaning_of_absence().items() if key in today and key not in saved}
    return _filled(saved, today | meant)


def _filled(there: dict[str, Any], meant: dict[str, Any]) -> dict[str, Any]:
    both = {
        key: _filled(value, meant[key])
        for key, value in there.items()
        if isinstance(value, dict) and isinstance(meant.get(key), dict)
    }
    return meant | there | both
