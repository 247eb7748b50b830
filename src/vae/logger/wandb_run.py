"""One W&B run for each run."""

from typing import Any

from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf


class WandbRun(WandbLogger):
    """Lightning's WandbLogger, without the option of wandb.init that W&B has since dropped and warns of.

    Args:
        **options: those of WandbLogger and of `wandb.init`.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._wandb_init.pop("anonymous", None)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """The config as nested plain values, by which W&B can filter and group, and not as one string a group."""
        plain = OmegaConf.to_container(OmegaConf.create(params), resolve=True)
        super().log_hyperparams(plain)  # type: ignore[arg-type]
