"""Trained models for others: a folder for a hub, or graphs that need nothing of this project."""
