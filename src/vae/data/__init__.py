"""Images: their sources, their splits, their batches, and how they become x."""

from vae.data.image_data import Attributes, Batch, BatchGroup, ImageDataModule, ImageSet

__all__ = ["Attributes", "Batch", "BatchGroup", "ImageDataModule", "ImageSet"]
