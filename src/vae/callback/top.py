"""The best epochs of a run, beside the best one."""

from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class Top(ModelCheckpoint):
    """Lightning's ModelCheckpoint under a key of its own, so that it may watch the number that `best` watches.

    Args:
        **options: those of `lightning.pytorch.callbacks.ModelCheckpoint`.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)

    @property
    def state_key(self) -> str:
        return f"{super().state_key}, {self.filename}"
