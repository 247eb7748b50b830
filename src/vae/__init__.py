"""Variational autoencoders: composed with Hydra, trained with Lightning, tracked with Weights & Biases."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae.prior.fitted_density import fit_density
    from vae.sweep.table import table
    from vae.trained.load import load_model

__all__ = ["fit_density", "load_model", "table"]


WHERE = {
    "fit_density": "vae.prior.fitted_density",
    "load_model": "vae.trained.load",
    "table": "vae.sweep.table",
}


def __getattr__(name: str) -> object:
    # torch is imported only when a name is used, so that `python train.py --help` is quick.
    if name not in WHERE:
        raise AttributeError(f"module 'vae' has no attribute {name!r}")
    return getattr(import_module(WHERE[name]), name)
