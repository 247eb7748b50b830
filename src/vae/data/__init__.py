"""Images: where they come from, how they are split, batched and turned into x."""

from vae.data.image_data import Attributes, Batch, BatchGroup, ImageDataModule, ImageSet

__all__ = ["Attributes", "Batch", "BatchGroup", "ImageDataModule", "ImageSet"]
