"""Images: where they come from, how they are split, batched and turned into x."""

from vae.data.image_data import Attributes, Batch, ImageDataModule, ImageSet

__all__ = ["Attributes", "Batch", "ImageDataModule", "ImageSet"]
