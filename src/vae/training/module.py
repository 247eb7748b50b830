"""VAEModule: the VAE and its ELBO as a Lightning training step, with logging and the optimiser."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torchmetrics import Metric

from vae.bound.allocation import keep_freed_memory
from vae.data import Batch, BatchGroup
from vae.logger.metrics_csv import MetricsCSV
from vae.metric.evaluated_batch import EvaluatedBatch, NeedsData
from vae.model import LatentModel
from vae.objective.objective import Objective
from vae.random import draw_key, set_draws
from vae.training.divergence import Step, describe
from vae.training.execution import Execution, loss_function
from vae.training.steps_at_once import count_steps, optimizer_step, steps_at_once

CALIBRATION_IMAGES = 10_000
"""Training images, at most, from which a likelihood is calibrated before each validation."""


class VAEModule(LightningModule):
    """Minimises an objective over the terms of a LatentModel, and measures the bound at β = 1.

    Nothing is logged per step: the step's numbers are kept on the device, and their means go to the
    loggers every `trainer.log_every_n_steps` steps, which is all that keeps the step as fast as a plain loop.

    Args:
        model: the model.
        objective: Terms, step → loss; a `vae.objective.objective.Objective`.
        optimizer: parameters → optimiser.
        scheduler: None, or optimiser → learning-rate scheduler, stepped every epoch.
        corruption: None, or clean image → what the encoder sees; the likelihood scores the clean one.
        val_metrics: metrics of `vae.metric`, by name, for the validation images.
        test_metrics: the same for the test images.
        execution: how the step is executed.
    """

    def __init__(
        self,
        model: LatentModel,
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        scheduler: Callable[..., Any] | None = None,
        corruption: nn.Module | None = None,
        val_metrics: Mapping[str, Metric] | None = None,
        test_metrics: Mapping[str, Metric] | None = None,
        execution: Execution | None = None,
    ):
        super().__init__()
        self.execution = execution or Execution()
        self.model, self.objective = model, objective
        self.optimizer, self.scheduler = optimizer, scheduler
        self.corruption = corruption or nn.Identity()
        self.val_metrics, self.test_metrics = dict(val_metrics or {}), dict(test_metrics or {})
        self._metrics = nn.ModuleList([*self.val_metrics.values(), *self.test_metrics.values()])
        self.model.recompute_decoder = self.execution.recompute_decoder
        self._step = loss_function(model, objective, self.execution)
        self.latest: dict[str, float] = {}
        self.latest_batch = 0
        self.per_latent: dict[str, list[float]] = {}
        # The steps whose means have not been logged: what training is looked at by, kept on the device.
        self.pending: list[Step] = []

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning notes the name of each hook it calls, some 40 times a step, and a module's own way of setting
        # attributes first looks for parameters, buffers and submodules, which text cannot be.
        if type(value) is str or (value is None and name in self.__dict__):
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def setup(self, stage: str) -> None:
        if stage == "fit":
            keep_freed_memory()
            # A checkpoint, if there is one, is restored after this.
            data = self.trainer.datamodule  # type: ignore[attr-defined]
            data.steps_at_once = steps_at_once(self.trainer, self.execution.steps_at_once, data.batch_pixels)
            self.automatic_optimization = data.steps_at_once == 1
            if self.model.starts_from_mean:
                self.model.start_from_mean(data.train_mean())
            if wanted := self.model.start_images:
                self.model.start_from_images(data.images("train", wanted)[0])

    def replace_test_metrics(self, metrics: Mapping[str, Metric]) -> None:
        """Measure something else on the test images."""
        self.test_metrics = dict(metrics)
        self._metrics = nn.ModuleList([*self.val_metrics.values(), *metrics.values()])

    def on_test_start(self) -> None:
        for metric in self.test_metrics.values():
            if isinstance(metric, NeedsData):
                metric.take_data(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        count_steps(checkpoint)
        # metrics.json has the last numbers of training, which a run that is resumed at its end does not log again.
        checkpoint["latest"] = dict(self.latest)
        # EarlyStopping keeps what it counted, but not that it has stopped the run.
        checkpoint["should_stop"] = self.trainer.should_stop
        # Its rows up to here, which will not be logged again, must be there before the checkpoint is.
        for logger in self.loggers:
            if isinstance(logger, MetricsCSV):
                logger.save()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        if self.trainer.state.fn == TrainerFn.FITTING:
            self.latest = dict(checkpoint.get("latest", {}))
            self.trainer.should_stop = checkpoint.get("should_stop", False)
            for logger in self.loggers:
                if isinstance(logger, MetricsCSV):
                    logger.continue_after(checkpoint["global_step"])

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = self.optimizer(self.parameters())
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}

    @property
    def epochs(self) -> int:
        """Epochs of training behind this one; `current_epoch` lacks one in a run that is resumed at its end."""
        return self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]

    def training_step(self, batch: Batch | BatchGroup, batch_idx: int) -> Tensor | None:
        if isinstance(batch, Batch):
            self.latest_batch = batch_idx
            return self._loss(batch)
        self._take_steps(batch, batch_idx)
        return None

    def _loss(self, batch: Batch) -> Tensor:
        loss, distortion, rate = self._step(batch.image, self.corruption(batch.image), self.trainer.global_step)
        # Kept as they are: even adding them up would cost a tenth of a small model's step.
        self.pending.append((loss.detach(), distortion, rate))
        return loss

    def _take_steps(self, group: BatchGroup, group_idx: int) -> None:
        """What Lightning's loop does with each batch, without looking for hooks in between."""
        optimizer, data = self.optimizers(), self.trainer.datamodule  # type: ignore[attr-defined]
        step = optimizer_step(self)
        last = len(group.keys) - 1
        for i, batch in enumerate(group.batches()):
            if self.trainer.global_step == self.trainer.max_steps:
                return
            self.latest_batch = group_idx * data.steps_at_once + i
            loss = self._loss(data.ready(batch))
            optimizer.zero_grad()  # type: ignore[union-attr]
            loss.backward()  # as manual_backward does at full precision on one device, where alone groups are
            step()
            self._log_if_due(self.trainer.is_last_batch and i == last)
        if self.trainer.is_last_batch and self.scheduler is not None:
            self.lr_schedulers().step()  # type: ignore[union-attr]

    def on_train_batch_end(self, outputs: object, batch: Batch | BatchGroup, batch_idx: int) -> None:
        if self.automatic_optimization:
            self._log_if_due(self.trainer.is_last_batch)

    def _log_if_due(self, is_last: bool) -> None:
        if is_last or len(self.pending) == self.trainer.log_every_n_steps:  # type: ignore[attr-defined]
            self._log_means()

    def _log_means(self) -> None:
        """Send the means since the last call, over steps and ranks, to the loggers."""
        if not self.pending:
            # Every step was left out, see callback/finite.py.
            return
        losses, distortions, rates = zip(*self.pending, strict=True)
        means = torch.stack((torch.stack(losses).mean(), torch.cat(distortions).mean(), torch.cat(rates).mean()))
        loss, distortion, rate = self.trainer.strategy.reduce(means, reduce_op="mean").tolist()
        if not math.isfinite(loss):
            raise FloatingPointError(describe(self, self.pending, self.trainer.global_step))
        self.pending.clear()
        numbers = self.objective.numbers(self.trainer.global_step)
        self._log_now(
            {
                "train/loss": loss,
                "train/elbo": -(distortion + rate),
                "train/distortion": distortion,
                "train/rate": rate,
                **{f"train/{name}": value for name, value in numbers.items()},
            }
        )

    def _log_now(self, numbers: dict[str, float]) -> None:
        self.latest |= numbers
        row = {**numbers, "epoch": self.epochs}
        for logger in self.loggers:
            logger.log_metrics(row, step=self.trainer.global_step)

    def on_validation_epoch_start(self) -> None:
        if self.model.needs_calibration:
            set_draws(draw_key("calibrate"), self.device)
            images = self.trainer.datamodule.images("train", CALIBRATION_IMAGES)[0]  # type: ignore[attr-defined]
            self.model.calibrate((x, self.corruption(x)) for x in images.to(self.device).split(500))

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(batch, self.test_metrics)

    def _evaluate(self, batch: Batch, metrics: Mapping[str, Metric]) -> None:
        if not batch.counts:
            return
        x, q = batch.image, self.model.encode(self.corruption(batch.image))
        latent_kl, chunk = self.objective.needs.latent_kl, self.objective.chunk
        terms = self.model.terms(x, q, self.objective.draws, kl="if_any", latent=latent_kl, chunk=chunk)
        evaluation = EvaluatedBatch(
            model=self.model,
            x=x,
            label=batch.label,
            key=batch.key,
            first=batch.first,
            q=q,
            loss=self.objective(terms, self.trainer.global_step),
            terms=terms,
            posterior_mean=q.mean,
            reconstruction=self.model.decode(q.mean).mean,
        )
        for metric in metrics.values():
            metric.update(evaluation)

    def on_validation_epoch_end(self) -> None:
        self._log_metrics("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        self._log_metrics("test", self.test_metrics)

    def _log_metrics(self, stage: str, metrics: Mapping[str, Metric]) -> None:
        computed = {f"{stage}/{name}": v for m in metrics.values() for name, v in m.compute().items()}
        self.per_latent = {name: v.tolist() for name, v in computed.items() if v.ndim}
        values = {name: v for name, v in computed.items() if not v.ndim}
        for metric in metrics.values():
            metric.reset()
        # The same on every rank already, as metrics synchronise when computed; Lightning warns without sync_dist.
        self.log_dict({name: value.float() for name, value in values.items()}, logger=False, sync_dist=True)
        numbers = {name: float(value) for name, value in values.items()}
        if self.trainer.state.fn == TrainerFn.VALIDATING:
            # The best checkpoint again, after training: a final number, no further point of the curve.
            self.latest |= numbers
        else:
            self._log_now(numbers)
