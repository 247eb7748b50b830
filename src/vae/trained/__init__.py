"""Trained models, as `load_model` returns them."""
