"""The result of an evaluation, and whether a run has the one that is asked for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError
from vae.metric.definition import Scored
from vae.run.checkpoint import digest
from vae.run.files import read_json, to_json

NOTHING = Scored("", "")
ASKED = ("data", "metric", "checkpoint", "split", "batch_size", "seed", "trainer")
"""Keys of conf/evaluate.yaml on which the numbers depend; k and the like are in `metric`."""
WHERE = ("accelerator", "devices", "strategy")
"""Those of the trainer on which they do not."""


@dataclass
class Result:
    """The complete result of one evaluated run, as in `evaluation.json`.

    Attributes:
        run: the run's directory.
        checkpoint, split, data, images, seed: what was evaluated.
        metrics: the numbers, with the names that the logs use.
        per_latent: lists of D numbers.
        cost: see `vae.evaluation.cost`.
        notes: what the reader must know.
        scored: the images and the kind of the likelihood, see `vae.metric.definition.Scored`.
        asked: what was asked for, see `asked_for`.
        weights: the digest of the checkpoint.
    """

    run: str
    checkpoint: str
    split: str
    data: str
    images: int
    seed: int
    metrics: dict[str, float]
    per_latent: dict[str, list[float]]
    cost: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    scored: Scored = NOTHING
    asked: dict[str, Any] = field(default_factory=dict)
    weights: str = ""

    def number(self, name: str) -> float | None:
        """Return one of the numbers. `name` is its name without the split."""
        return self.metrics.get(f"{self.split}/{name}")


def asked_for(config: DictConfig) -> dict[str, Any]:
    """Return what the numbers of an evaluation depend on, of a composed config, as JSON has it."""
    whole = OmegaConf.to_container(config, resolve=True)
    assert isinstance(whole, dict)
    asked = {key: whole.get(key) for key in ASKED}
    asked["trainer"] = {key: value for key, value in (asked["trainer"] or {}).items() if key not in WHERE}
    return json.loads(to_json(asked))


def is_evaluated(run: Path, asked: Mapping[str, Any]) -> bool:
    """Return whether one of a run's evaluations is what is asked for, of the weights that it has now."""
    checkpoint = run / "checkpoints" / f"{asked['checkpoint']}.ckpt"
    for path in sorted(run.glob("evaluation*.json")):
        try:
            found = read_json(path) or {}
            if found.get("asked") == asked and found.get("weights") == digest(checkpoint):
                return True
        except (ConfigError, OSError):
            continue
    return False
