"""Pictures of the model while it trains and when it is done."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch
from jaxtyping import Float
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from vae.checks import check_int
from vae.data import ImageDataModule
from vae.logger.run_logger import RunLogger
from vae.metric.rate_per_latent import mean_rates
from vae.model import LatentModel, evaluating
from vae.picture.code_sheets import code_sheets
from vae.picture.figure import save_figure, save_latent_scatter
from vae.picture.latent_walk import images_at
from vae.picture.sheet import (
    Sheet,
    interpolation_sheet,
    manifold_sheet,
    reconstructions_sheet,
    samples_sheet,
    seen_by_encoder,
    traversal_sheet,
)
from vae.prior.fitted_density import fit_density
from vae.progress import task
from vae.random import generator

T = TypeVar("T")
LARGE = 16
"""Latents from which on samples are drawn from a fitted density, too.

In many dimensions nearly all of N(0, I) lies where hardly an image was encoded, so that samples from it are worse
than the model is (Ghosh et al. 2020, section 4; Dai & Wipf 2019).
"""
LARGEST = 512
"""Latents up to which they are: with the cube of their number grows the time for full covariances, minutes at some
thousands."""


class Pictures(Callback):
    """Reconstructions, samples from the prior, interpolations and, for D = 2, the manifold and the latents.

    Of a model whose networks are told labels only the first two, the samples of each class in turn.
    Of a model with codes, those too, see `code_sheets`. Of any other at the end also a traversal, and of 16 to 512
    latents, or of an autoencoder of at most 512, samples from a density that is fitted to the codes. The final
    ones, of the best checkpoint on test images, are PNGs in `folder`; those on the way, on validation images, in
    `folder/epoch_<n>`, where epoch 0 is before training. All also go to the loggers. Images and noise are the same
    each time, so that pictures may be compared over epochs and runs.

    Args:
        folder: where to write.
        every_n_epochs: how often on the way; 0 for only at the end.
        seed: of the noise.
    """

    def __init__(self, folder: str, every_n_epochs: int = 10, seed: int = 0):
        self.folder, self.seed = Path(folder), check_int("callback.pictures.seed", seed, minimum=0)
        self.every_n_epochs = check_int("callback.pictures.every_n_epochs", every_n_epochs, minimum=0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.every_n_epochs and trainer.global_step == 0:
            with evaluating(pl_module):
                self._draw(trainer, pl_module, "val", 0)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if trainer.state.fn != TrainerFn.FITTING or trainer.sanity_checking:
            return
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self._draw(trainer, pl_module, "val", epoch)

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "test", None)

    @torch.no_grad()
    def _draw(self, trainer: Trainer, module: LightningModule, split: str, epoch: int | None) -> None:
        """Draw all pictures of an epoch, or with None the final ones, in the first process."""
        if trainer.is_global_zero:
            with task("drawing pictures"):
                self._draw_all(trainer, module, split, epoch)

    def _draw_all(self, trainer: Trainer, module: LightningModule, split: str, epoch: int | None) -> None:
        model, data = module.model, trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(model, LatentModel)
        assert isinstance(data, ImageDataModule)
        folder = self.folder if epoch is None else self.folder / f"epoch_{epoch:04d}"
        when = "" if epoch is None else f", epoch {epoch}"
        what = "test images" if split == "test" else "validation images"
        x, label = (each.to(model.device) for each in data.images(split, 24))
        seen = seen_by_encoder(module.corruption, x, self.seed)  # type: ignore[arg-type]
        restored = model.reconstruct(x if seen is None else seen, label)
        z = self._prior_codes(model)
        every = torch.arange(len(z), device=z.device) % model.classes if model.classes else None
        drawn = images_at(model, z, label=every)
        sheets = {
            "reconstructions": reconstructions_sheet(x, restored, seen, what + when),
            "samples": samples_sheet(drawn, f"Samples from the prior{when}"),
        }
        if not model.classes:
            sheets |= self._of_latents(model, data, module.corruption, x, what, epoch)  # type: ignore[arg-type]
        files = {name: folder / f"{name}.png" for name in sheets}
        for name, sheet in sheets.items():
            save_figure(files[name], sheet)
        if model.latent_size == 2:
            x, labels = data.images(split, 2000)
            files["latents"] = folder / "latents.png"
            parts = zip(x.to(model.device).split(500), labels.to(model.device).split(500), strict=True)
            mean = torch.cat([model.encode(*part).mean for part in parts])
            save_latent_scatter(files["latents"], mean, labels, f"Posterior means of {what}{when}")
        self._send(trainer, split, files)

    def _of_latents(
        self,
        model: LatentModel,
        data: ImageDataModule,
        corruption: torch.nn.Module,
        x: Float[Tensor, "N C H W"],
        what: str,
        epoch: int | None,
    ) -> dict[str, Sheet]:
        """Return what shows how images change with z, or with the codes."""
        sheets = {}
        if pairs := min(len(x) // 2, 8):
            sheets["interpolations"] = interpolation_sheet(model, x[:pairs], x[pairs : 2 * pairs])
        if model.posterior.codes is not None:
            return sheets | self._drawn(lambda: code_sheets(model, x, what))
        if model.latent_size == 2:
            sheets["manifold"] = manifold_sheet(model)
        return sheets | (self._final_sheets(model, data, corruption) if epoch is None else {})

    def _final_sheets(
        self, model: LatentModel, data: ImageDataModule, corruption: torch.nn.Module
    ) -> dict[str, Sheet]:
        """Return what is drawn of the final model only, as it takes more than a moment."""
        x = data.images("test", 500)[0].to(model.device)
        seen = seen_by_encoder(corruption, x, self.seed)
        q = model.encode(x if seen is None else seen)
        sheets = {"traversal": traversal_sheet(model, q.mean[0], mean_rates(model, q).cpu())}
        is_needed = model.latent_size >= LARGE or not getattr(model.posterior, "has_density", True)
        if not is_needed or model.latent_size > LARGEST:
            return sheets
        images = data.images("train", 5000)[0]
        density = fit_density(model, images, min(10, len(images)), seed=self.seed)
        codes = self._drawn(lambda: density(model.encode).sample(torch.Size((64,))))
        title = (
            "Samples from a density fitted to the codes of training images:"
            " of many latents most draws from the prior lie where no image was encoded"
        )
        return sheets | {"samples_density": samples_sheet(images_at(model, codes), title)}

    def _prior_codes(self, model: LatentModel) -> Float[Tensor, "N D"]:
        return self._drawn(lambda: model.p_z().sample(torch.Size((64,))))

    def _drawn(self, draw: Callable[[], T]) -> T:
        """Return what is drawn, the same each time."""
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(generator("pictures", self.seed).get_state())
            return draw()

    def _send(self, trainer: Trainer, split: str, files: dict[str, Path]) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                for name, file in files.items():
                    logger.log_picture(f"{split}/{name}", file, trainer.global_step)
