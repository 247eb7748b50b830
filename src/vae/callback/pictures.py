"""Pictures of the model while it trains and when it is done."""

from pathlib import Path

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.trainer.states import TrainerFn
from torchvision.utils import save_image

from vae.checks import check_int
from vae.data import ImageDataModule
from vae.model import LatentModel
from vae.picture import rows as picture
from vae.random import generator


class Pictures(Callback):
    """Reconstructions, samples from the prior, interpolations and, for D = 2, the manifold and the latents.

    The final ones, of the best checkpoint on test images, are PNGs in `folder`; those on the way, on
    validation images, in `folder/epoch_<n>`. All also go to W&B. Images and noise are the same each time,
    so that pictures may be compared over epochs and runs.

    Args:
        folder: where to write.
        every_n_epochs: how often on the way; 0 for only at the end.
        seed: of the noise.
    """

    def __init__(self, folder: str, every_n_epochs: int = 10, seed: int = 0):
        self.folder, self.seed = Path(folder), seed
        self.every_n_epochs = check_int("callback.pictures.every_n_epochs", every_n_epochs, minimum=0)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if trainer.state.fn != TrainerFn.FITTING:
            return
        if self.every_n_epochs and epoch % self.every_n_epochs == 0:
            self._draw(trainer, pl_module, "val", self.folder / f"epoch_{epoch:04d}")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._draw(trainer, pl_module, "test", self.folder)

    @torch.no_grad()
    def _draw(self, trainer: Trainer, module: LightningModule, split: str, folder: Path) -> None:
        if not trainer.is_global_zero:
            return
        model, data = module.model, trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(model, LatentModel)
        assert isinstance(data, ImageDataModule)
        folder.mkdir(parents=True, exist_ok=True)
        x = data.images(split, 32)[0].to(model.device)
        half = len(x) // 4
        drawn = {
            "reconstructions": picture.reconstructions(model, x, self._seen(module, x)),
            "samples": picture.samples(model, self._prior_draws(model)),
            "interpolations": picture.interpolations(model, x[:half], x[half : 2 * half]),
        }
        if model.latent_size == 2:
            drawn["manifold"] = picture.manifold(model)
        files = {name: folder / f"{name}.png" for name in drawn}
        for name, image in drawn.items():
            save_image(image, files[name])
        if model.latent_size == 2:
            x, labels = data.images(split, 2000)
            files["latents"] = folder / "latents.png"
            picture.save_latent_scatter(str(files["latents"]), model.encode(x.to(model.device)).mean, labels)
        self._send(trainer, split, files)

    def _seen(self, module: LightningModule, x: torch.Tensor) -> torch.Tensor | None:
        """What the encoder sees of x, if that is not x itself."""
        if isinstance(module.corruption, torch.nn.Identity):
            return None
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(generator("corruption pictures", self.seed).get_state())
            return module.corruption(x.cpu()).to(x)  # type: ignore[operator]

    def _prior_draws(self, model: LatentModel) -> torch.Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.set_state(generator("pictures", self.seed).get_state())
            return model.p_z().sample(torch.Size((64,)))

    def _send(self, trainer: Trainer, split: str, files: dict[str, Path]) -> None:
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger):
                for name, file in files.items():
                    logger.log_image(f"{split}/{name}", [str(file)], step=trainer.global_step)
