"""VAEModule: the VAE and its ELBO as a Lightning training step, with logging and the optimiser."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.nn.utils import get_total_norm
from torchmetrics import Metric

from vae.data import Batch, ImageDataModule
from vae.internals import epoch_is_whole, epochs_in_checkpoint, has_stopped_early, step_schedule
from vae.logger.metrics_csv import MetricsCSV
from vae.metric.evaluated_batch import EvaluatedBatch, NeedsData
from vae.model import LatentModel, evaluating
from vae.objective.objective import Objective
from vae.random import draw_key, of_whole_batch, set_draws
from vae.training.divergence import Step, describe
from vae.training.execution import Execution, losses_of, terms_of
from vae.training.initialization import Start, check_labels, start_from_images
from vae.training.own_step import OwnStep

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
        start_from_mean: whether the decoder starts at the mean training image, or at its mean grey.
        clip: the norm to which gradients are clipped, where Lightning does not do it: in a stack.
        skip_limit: None to go on until a mean of losses is not finite; or how many steps, whose gradients are not
            finite, may be left out.
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
        start_from_mean: Start = False,
        skip_limit: int | None = None,
        clip: float | None = None,
    ):
        super().__init__()
        self.model, self.objective = model, objective
        self.optimizer, self.scheduler = optimizer, scheduler
        self.corruption = corruption or nn.Identity()
        self.val_metrics, self.test_metrics = dict(val_metrics or {}), dict(test_metrics or {})
        self._metrics = nn.ModuleList([*self.val_metrics.values(), *self.test_metrics.values()])
        execution = execution or Execution()
        self.terms = terms_of(model, objective, execution)
        self.losses = losses_of(self.forward, execution)
        self.is_compiled = execution.compile_mode is not None
        self.own_step = OwnStep(objective) if objective.trains_itself else None
        self.start_from_mean, self.skip_limit, self.clip = start_from_mean, skip_limit, clip
        self.skipped, self._calibrated_at = 0, -1
        self.latest: dict[str, float] = {}
        self.per_latent: dict[str, list[float]] = {}
        # The steps whose means have not been logged: what training is looked at by, kept on the device.
        self.pending: list[Step] = []
        self.scores: dict[str, Any] = {}
        self.is_cut = False
        """Whether `max_steps` has ended the training before the last step of a group of batches."""
        self.evaluated_step: int | None = None
        """The step of the checkpoint whose weights are evaluated; None for those that training left."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch: draw the noise, encode, draw z, decode, and let the objective weigh
        the terms.
        """
        x, seen, noise = self.drawn(batch)
        label = (batch.label.to(x.device),) if self.uses_labels else ()
        loss, distortion, rate = self.losses(x, seen, noise, self.trainer.global_step, *label)
        if self.objective.adapts:
            self.objective.after_step(rate)
        if self.model.posterior.adapts and self.model.posterior.training:
            self.model.posterior.after_step()
        # Kept as they are: even adding them up would cost a tenth of a small model's step.
        self.pending.append(Step(loss.detach(), distortion, rate, batch_idx))
        return loss

    @property
    def uses_labels(self) -> bool:
        """Whether a step needs the label of each image."""
        return bool(self.model.classes or self.model.prior.classes or self.objective.uses_labels)

    def drawn(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return images x (B, C, H, W), what the encoder sees of them, and noise (K, B, E).

        A rank's draws are its share of those that one rank has for the whole batch.
        """
        x, (rank, ranks) = batch.image, (batch.rank, batch.ranks)
        if ranks == 1:
            return x, self.corruption(x), self.model.noise(self.objective.draws, len(x))
        seen = of_whole_batch(self.corruption, x, rank, ranks)
        noise = self.model.noise(self.objective.draws, len(x) * ranks)[:, rank * len(x) : (rank + 1) * len(x)]
        # What draws by itself, as dropout does, is not to draw the same on each rank.
        set_draws(draw_key("rank", batch.key, rank), x.device)
        return x, seen, noise

    def forward(
        self, x: Tensor, seen: Tensor, noise: Tensor, step: int | Tensor, label: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the loss of images x of which the encoder sees `seen`, and the distortion and the rate of each.

        With labels they are those of a bound on log p(x|y) where a network is told them, and on log p(x, y) where
        a prior learns from them.
        """
        q = self.model.encode(seen, label)
        terms = self.terms(x, q, noise, label=label)
        loss = self.objective(terms, step)
        if self.model.posterior.has_penalty and self.model.posterior.training:
            loss = loss + self.model.posterior.penalty(q).mean()
        return loss, terms.distortion.detach(), self.objective.rate(terms).detach()

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Leave a step out whose gradient is not finite, if that is asked for, and log the norm of others."""
        due = (self.trainer.global_step + 1) % self.trainer.log_every_n_steps == 0  # type: ignore[attr-defined]
        if not due and self.skip_limit is None:
            return
        norm = get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
        if self.skip_limit is not None and not norm.isfinite():
            # Among ranks the gradients are averaged, so that all leave out the same steps.
            self._leave_out(optimizer, self.skip_limit)
        elif due:
            self.send({"train/grad_norm": float(norm)}, self.trainer.global_step + 1)

    def _leave_out(self, optimizer: torch.optim.Optimizer, limit: int) -> None:
        """Have a step change nothing: neither weights nor the optimiser's state nor the means."""
        self.skipped += 1
        if self.skipped > limit:
            raise FloatingPointError(
                f"{describe(self, self.pending, self.trainer.global_step + 1)}; on_nan=skip: {limit} steps were"
                " left out before (on_nan_limit), and this is one more"
            )
        optimizer.zero_grad(set_to_none=True)
        self.pending.pop()
        self.objective.seen = None

    def on_train_batch_end(self, outputs: object, batch: Batch, batch_idx: int) -> None:
        """Make the objective's own step, if it has one, and send the means of the steps to the loggers, if due."""
        if self.own_step is not None:
            self.own_step.take(batch.key)
        self.log_means_if_due(self.trainer.is_last_batch)

    def on_train_start(self) -> None:
        """Give callbacks of a resumed run what Lightning does not: the last validation, and the last saved."""
        seen = {name: torch.tensor(value) for name, value in self.latest.items() if name.startswith("val/")}
        self.trainer.callback_metrics.update(seen)
        for callback in self.trainer.checkpoint_callbacks:
            if isinstance(callback, ModelCheckpoint) and callback.state_key in self.scores:
                callback.current_score = self.scores[callback.state_key]

    def on_train_epoch_end(self) -> None:
        """Log the means of what `max_steps` or `max_time` has left of an epoch; calibrate what is saved after it.

        After an epoch with validation the latter has been done.
        """
        self.log_means_if_due(is_last=True)
        if self.needs_calibration:
            self.calibrate()

    def log_means_if_due(self, is_last: bool) -> None:
        """Log the means over the pending steps and over ranks, every so many steps and at the end of an epoch."""
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        if not self.pending or not (is_last or sum(step.loss.numel() for step in self.pending) == every):
            return
        kept = zip(*[step[:3] for step in self.pending], strict=True)  # losses, distortions and rates
        means = torch.stack([torch.cat([values.reshape(-1) for values in each]).mean() for each in kept])
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
        self.send({**numbers, "epoch": self.epochs}, self.trainer.global_step)

    def send(self, numbers: dict[str, float], step: int) -> None:
        """Log numbers, as of a step, to every logger."""
        for logger in self.loggers:
            logger.log_metrics(numbers, step=step)

    @property
    def epochs(self) -> int:
        """Epochs of training behind this one; `current_epoch` lacks one in a run that is resumed at its end."""
        return self.trainer.fit_loop.epoch_progress.current.processed  # type: ignore[attr-defined]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return the optimiser of all parameters that are trained, and its scheduler."""
        optimizer = self.optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}

    def _schedule(self) -> dict[str, Any]:
        """Return what the learning rate of each epoch is made of."""
        parts = {"optimizer": self.optimizer, "scheduler": self.scheduler}
        return {name: dict(part.keywords) for name, part in parts.items() if isinstance(part, partial)}

    def _reschedule(self, checkpoint: dict[str, Any]) -> None:
        """Give a checkpoint the optimiser's present numbers, and the schedule's learning rate by then."""
        optimizer = self.optimizer([nn.Parameter(torch.zeros(1))])
        scheduler = self.scheduler(optimizer) if self.scheduler is not None else None
        if scheduler is not None:
            step_schedule(scheduler, epochs_in_checkpoint(checkpoint))
            checkpoint["lr_schedulers"] = [scheduler.state_dict()]
        numbers = {name: value for name, value in optimizer.param_groups[0].items() if name != "params"}
        for state in checkpoint["optimizer_states"]:
            for group in state["param_groups"]:
                group |= numbers

    @property
    def data(self) -> ImageDataModule:
        """The images of this training or evaluation."""
        return self.trainer.datamodule  # type: ignore[attr-defined]

    def setup(self, stage: str) -> None:
        """Start what starts from training images. A checkpoint, if there is one, is restored after this."""
        if stage == "fit":
            start_from_images(self.model, self.data, self.start_from_mean)
            if self.uses_labels:
                check_labels(self.data, self.model, self.objective)

    def on_validation_epoch_start(self) -> None:
        """Work out the constants that a likelihood needs for evaluation."""
        if self.model.likelihood.needs_calibration:
            self.calibrate()

    @property
    def needs_calibration(self) -> bool:
        """Whether the likelihood has constants for evaluation that are those of an earlier step."""
        return self.model.likelihood.needs_calibration and self._calibrated_at != self.trainer.global_step

    @torch.no_grad()
    def calibrate(self) -> None:
        """Give the likelihood the mean squared error of training images, a draw of z for each."""
        self._calibrated_at = self.trainer.global_step
        set_draws(draw_key("calibrate"), self.device)
        images, labels = (each.to(self.device) for each in self.data.images("train", CALIBRATION_IMAGES))
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        with evaluating(self):
            for x, label in zip(images.split(500), labels.split(500), strict=True):
                z = self.model.encode(self.corruption(x), label).rsample()
                total += (self.model.decode(z, label).mean - x).square().sum(dtype=torch.float64)
            self.model.likelihood.calibrate((total / images.numel()).float())

    def replace_test_metrics(self, metrics: Mapping[str, Metric]) -> None:
        """Measure something else on the test images."""
        self.test_metrics = dict(metrics)
        self._metrics = nn.ModuleList([*self.val_metrics.values(), *metrics.values()])

    def on_test_start(self) -> None:
        """Give metrics the data that they ask for."""
        for metric in self.test_metrics.values():
            if isinstance(metric, NeedsData):
                metric.take_data(self.data)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure one batch of validation images."""
        self._evaluate(batch, self.val_metrics)

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Measure one batch of test images."""
        self._evaluate(batch, self.test_metrics)

    def _evaluate(self, batch: Batch, metrics: Mapping[str, Metric]) -> None:
        if not batch.counts:
            return
        # Of a prior that learns from labels, too, what is reported is a bound on log p(x).
        told = self.uses_labels and not self.model.prior.classes
        x, label = batch.image, batch.label.to(batch.image.device) if told else None
        q = self.model.encode(self.corruption(x), label)
        terms = self.terms(x, q, self.model.noise(self.objective.draws, len(x)), label=label)
        evaluation = EvaluatedBatch(
            model=self.model,
            x=x,
            label=batch.label.to(x.device),
            key=batch.key,
            first=batch.first,
            q=q,
            loss=self.objective(terms, self.trainer.global_step),
            terms=terms,
            posterior_mean=q.mean,
            reconstruction=self.model.decode(q.mean, label).mean if self.model.likelihood.has_mean else None,
        )
        for metric in metrics.values():
            metric.update(evaluation)

    def on_validation_epoch_end(self) -> None:
        """Log what was measured on the validation images."""
        self._log_metrics("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Log what was measured on the test images."""
        self._log_metrics("test", self.test_metrics)

    def _log_metrics(self, stage: str, metrics: Mapping[str, Metric]) -> None:
        if self.trainer.sanity_checking:
            # A few batches, before training, which are no numbers of the run.
            for metric in metrics.values():
                metric.reset()
            return
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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep what a resumed run needs beside the weights."""
        # metrics.json has the last numbers of training, which a run that is resumed at its end does not log again.
        checkpoint["latest"], checkpoint["skipped"] = dict(self.latest), self.skipped
        # EarlyStopping keeps what it counted, but not that it has stopped the run.
        checkpoint["should_stop"] = has_stopped_early(self.trainer)
        checkpoint["is_whole_epoch"] = epoch_is_whole(self.trainer) and not self.is_cut
        checkpoint["schedule"] = self._schedule()
        if self.own_step is not None:
            checkpoint["own_step"] = self.own_step.state_dict()
        # Its rows up to here, which will not be logged again, must be there before the checkpoint is.
        checkpoint["rows"] = 0
        for logger in self.loggers:
            if isinstance(logger, MetricsCSV):
                logger.save()
                checkpoint["rows"] = len(logger.rows)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on where the checkpoint was saved."""
        if self.trainer.state.fn != TrainerFn.FITTING:
            self.evaluated_step = checkpoint["global_step"]
        else:
            self.latest, self.skipped = dict(checkpoint.get("latest", {})), checkpoint.get("skipped", 0)
            self.trainer.should_stop = checkpoint.get("should_stop", False)
            if self.own_step is not None:
                self.own_step.load_state_dict(checkpoint["own_step"])
            states = checkpoint["callbacks"].items()
            self.scores = {key: state["current_score"] for key, state in states if "current_score" in state}
            if checkpoint["schedule"] != self._schedule():
                self._reschedule(checkpoint)
            for logger in self.loggers:
                if isinstance(logger, MetricsCSV):
                    logger.continue_after(checkpoint["global_step"], checkpoint["rows"])
