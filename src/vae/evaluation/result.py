"""The result of an evaluation."""

from dataclasses import dataclass, field
from typing import Any

from vae.metric.definition import Scored

NOTHING = Scored("", "")


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

    def number(self, name: str) -> float | None:
        """Return one of the numbers. `name` is its name without the split."""
        return self.metrics.get(f"{self.split}/{name}")
