"""The summary of a number that was measured several times."""

from collections.abc import Sequence
from statistics import median


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, the least and the most."""
    return {"median": median(values), "least": min(values), "most": max(values)}
