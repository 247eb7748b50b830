"""Variational autoencoders: composed with Hydra, trained with Lightning, tracked with Weights & Biases."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae.run import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> object:
    # torch is only imported once something is asked for, so that `python train.py --help` is quick.
    if name == "load_model":
        from vae.run import load_model

        return load_model
    raise AttributeError(f"module 'vae' has no attribute {name!r}")
