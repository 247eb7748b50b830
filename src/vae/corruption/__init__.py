"""Corruptions: from a clean image to what the encoder sees. The likelihood scores the clean image."""
