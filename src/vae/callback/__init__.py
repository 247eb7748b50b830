"""Callbacks: checkpoints, pictures and progress during training."""
