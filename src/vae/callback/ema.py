"""An average of the weights over the steps, which is what is measured and saved."""

from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.trainer.states import TrainerFn


class EMA(EMAWeightAveraging):
    """Lightning's exponential moving average, with the same weights in validation, checkpoints and final test.

    Lightning (2.6) also exchanges the weights where a checkpoint, whose weights are the average, is loaded to be
    validated or tested: the average was validated, and the last step's weights were tested.

    Args:
        **options: Lightning's, above all `decay`.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_validation_epoch_end(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        # The module is about to calibrate the likelihood for what is saved, which is the average.
        if pl_module.needs_calibration:
            super().on_validation_epoch_start(trainer, pl_module)
            pl_module.calibrate()  # type: ignore[operator]
            super().on_validation_epoch_end(trainer, pl_module)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if trainer.state.fn == TrainerFn.FITTING:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
