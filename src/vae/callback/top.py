"""A callback that keeps the best few epochs of a run, in addition to the best one."""

from typing import Any

from lightning.pytorch.callbacks import ModelCheckpoint


class Top(ModelCheckpoint):
    """Lightning's ModelCheckpoint with its own state key, so that it can watch the same number as `best`.

    Args:
        **options: the options of `lightning.pytorch.callbacks.ModelCheckpoint`.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)

    @property
    def state_key(self) -> str:
        return f"{super().state_key}, {self.filename}"
