"""What a training run should be watched for: gradients, noise, latents that fall asleep, and the likelihood."""

import sys

import torch
from lightning import Callback, LightningModule, Trainer
from torch import Tensor

from vae.checks import check_int
from vae.data import ImageDataModule
from vae.metric.active_units import collapse_warning
from vae.metric.per_image import standard_error
from vae.metric.rate_per_latent import mean_rates
from vae.model import LatentModel
from vae.random import draw_key, set_draws


class Watch(Callback):
    """Logs, besides what the module logs,

    * `val/sigma`: σ of the likelihood, where it has a single one;
    * `latent/rate_001`, …: the rate of each latent z₁, …, in closed form where it has one, see
      `vae.metric.rate_per_latent.mean_rates`; not of codes;
    * `val/nll`, `val/nll_stderr`: importance-sampled with `nll_k` draws, on the same images with the same
      noise each time (off by default, as it costs).

    They are of the first `images` validation images, every `every_n_epochs` epochs. Of posterior
    collapse it warns in words, as soon as a validation shows it.

    Args:
        every_n_epochs: how often; 0 for never.
        images: validation images, at most.
        nll_k: draws for `val/nll`; 0 for none.
    """

    def __init__(self, every_n_epochs: int = 10, images: int = 1000, nll_k: int = 0):
        self.every_n_epochs = check_int("callback.watch.every_n_epochs", every_n_epochs, minimum=0)
        self.images = check_int("callback.watch.images", images)
        self.nll_k = check_int("callback.watch.nll_k", nll_k, minimum=0)
        self._has_warned = False

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        due = self.every_n_epochs and (trainer.current_epoch + 1) % self.every_n_epochs == 0
        if not due or not trainer.is_global_zero or trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        model, data = pl_module.model, trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(model, LatentModel)
        assert isinstance(data, ImageDataModule)
        x, label = (each.to(model.device) for each in data.images("val", self.images))
        numbers: dict[str, float] = {}
        sigma = model.likelihood.spread
        if sigma is not None and sigma.numel() == 1:
            numbers["val/sigma"] = float(sigma)
        if model.posterior.has_density:
            # The draws of this callback must not shift those of training.
            with torch.random.fork_rng():
                set_draws(draw_key("watch"), model.device)
                seen = pl_module.corruption(x)  # type: ignore[operator]
                q = model.encode(seen, label)
                rates = [] if model.posterior.codes is not None else mean_rates(model, q).tolist()
                numbers |= {f"latent/rate_{d + 1:03d}": rate for d, rate in enumerate(rates)}
                numbers |= self._likelihood(model, x, seen, label)
        self._log(trainer, numbers, trainer.global_step)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warn of a posterior that has collapsed, once."""
        if trainer.state.fn != "fit" or trainer.sanity_checking or not trainer.is_global_zero:
            return
        if self._has_warned or not self.every_n_epochs:
            return
        model = pl_module.model
        assert isinstance(model, LatentModel)
        if not (model.posterior.uses_features or model.posterior.by_bayes):
            return  # no latent depends on the image, as it was asked for
        latest: dict[str, float] = pl_module.latest  # type: ignore[assignment]
        warning = collapse_warning(latest.get("val/active_units"), latest.get("val/rate"))
        if warning is not None:
            self._has_warned = True
            print(f"warning: after epoch {trainer.current_epoch + 1}: {warning}", file=sys.stderr, flush=True)

    def _likelihood(self, model: LatentModel, x: Tensor, seen: Tensor, label: Tensor) -> dict[str, float]:
        if not self.nll_k:
            return {}
        parts = zip(x.split(250), seen.split(250), label.split(250), strict=True)
        log_px = [
            model.log_marginal(clean, self.nll_k, q=model.encode(given, y), label=y).log_px
            for clean, given, y in parts
        ]
        nll = -torch.cat(log_px)
        return {"val/nll": float(nll.mean()), "val/nll_stderr": float(standard_error(nll))}

    def _log(self, trainer: Trainer, numbers: dict[str, float], step: int) -> None:
        for logger in trainer.loggers:
            logger.log_metrics(numbers, step=step)
