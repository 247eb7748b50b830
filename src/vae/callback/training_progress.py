"""How a training is going, for `vae.progress` to show."""

import math
import time
from typing import Any

from lightning import Callback, LightningModule, Trainer

from vae import progress
from vae.checks import check_choice


class TrainingProgress(Callback):
    """Tells the epoch, the bound and its parts, and the best so far; and how far validation and test are.

    It is looked at as time passes, so that no step waits for it.

    Args:
        monitor: the logged number by which the best epoch is chosen.
        mode: `max` or `min`.
    """

    def __init__(self, monitor: str = "val/elbo", mode: str = "max"):
        self.monitor, self.mode = monitor, check_choice("monitor.mode", mode, ("max", "min"))
        self._best: tuple[float, int] | None = None
        self._tasks: list[progress.Task] = []
        self._started, self._is_first = 0.0, True

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()
        self._begin(progress.Task("training", look=lambda: self._look(trainer, pl_module)))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._is_first:
            self._say(trainer, pl_module)
        self._is_first = False

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._say(trainer, pl_module)
        self._end()

    def _say(self, trainer: Trainer, module: LightningModule) -> None:
        """Print a line that stays: of the first epoch, which tells how long they take, and of the last."""
        seconds = progress.duration(time.monotonic() - self._started)
        if trainer.is_global_zero:
            progress.say(f"epoch {self._epoch(trainer)} {self._numbers(module)} ({seconds})")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(progress.Task("validating", sum(trainer.num_val_batches)))

    def on_validation_batch_end(self, *args: Any, **kwargs: Any) -> None:
        progress.advance()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()
        if trainer.sanity_checking:
            return
        latest: dict[str, float] = pl_module.latest  # type: ignore[assignment]
        value = latest.get(self.monitor, math.nan)
        sign = 1 if self.mode == "max" else -1
        if trainer.state.fn == "fit" and (self._best is None or sign * value > sign * self._best[0]):
            self._best = (value, trainer.current_epoch + 1) if math.isfinite(value) else None

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._begin(progress.Task("testing", sum(trainer.num_test_batches)))

    def on_test_batch_end(self, *args: Any, **kwargs: Any) -> None:
        progress.advance()

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        while self._tasks:
            self._end()

    def _begin(self, task: progress.Task) -> None:
        self._tasks.append(progress.begin(task))

    def _end(self) -> None:
        progress.end(self._tasks.pop())

    def _look(self, trainer: Trainer, module: LightningModule) -> tuple[float | None, str, str]:
        return self._share(trainer), f"epoch {self._epoch(trainer)}", self._numbers(module)

    def _epoch(self, trainer: Trainer) -> str:
        most = trainer.max_epochs if (trainer.max_epochs or -1) > 0 else None
        now = trainer.current_epoch + 1
        return f"{now}" if most is None else f"{min(now, most)}/{most}"

    def _share(self, trainer: Trainer) -> float | None:
        """Return the share of all steps that there will be, as far as that is known."""
        shares = []
        if trainer.max_epochs is not None and trainer.max_epochs > 0:
            batches = (trainer.fit_loop.epoch_loop.batch_idx + 1) / max(trainer.num_training_batches, 1)
            shares.append((trainer.current_epoch + batches) / trainer.max_epochs)
        if trainer.max_steps > 0:
            shares.append(trainer.global_step / trainer.max_steps)
        return min(max(shares), 1.0) if shares else None

    def _numbers(self, module: LightningModule) -> str:
        latest: dict[str, float] = module.latest  # type: ignore[assignment]
        names = {"elbo": "train/elbo", "rate": "train/rate", "distortion": "train/distortion"}
        names |= {self.monitor: self.monitor}
        # An autoencoder has no bound: its rate is infinite.
        finite = {
            short: latest[name] for short, name in names.items() if math.isfinite(latest.get(name, math.nan))
        }
        found = [f"{short} {value:.2f}" for short, value in finite.items()]
        best = [f"best {self._best[0]:.2f} (epoch {self._best[1]})"] if self._best else []
        return " ".join([*found, *best])
