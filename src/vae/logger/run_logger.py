"""What a run asks of a logger beside what Lightning does."""

from collections.abc import Mapping
from pathlib import Path


class RunLogger:
    """Beside Lightning's `Logger`: pictures, an end, and the numbers of a later evaluation.

    One of your own is a subclass of this and of Lightning's; all that it does not define is left out.
    """

    def log_picture(self, name: str, file: Path, step: int) -> None:
        """Show a PNG, such as `val/samples`, as of an optimiser step."""

    def add_evaluation(self, numbers: Mapping[str, float]) -> None:
        """Add what `vae.evaluate` found, such as `evaluation/nll`, to the run, which has ended."""

    def finish(self) -> None:
        """End the run, so that the next one in this process is another."""
