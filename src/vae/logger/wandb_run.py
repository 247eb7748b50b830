"""One W&B run for each run."""

from typing import Any

from lightning.pytorch.loggers import WandbLogger


class WandbRun(WandbLogger):
    """Lightning's WandbLogger, without the option of wandb.init that W&B has since dropped and warns of.

    Args:
        **options: those of WandbLogger and of `wandb.init`.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._wandb_init.pop("anonymous", None)
