"""Variational autoencoders: composed with Hydra, trained with Lightning, tracked with Weights & Biases."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vae.prior.fitted_density import fit_density
    from vae.sweep.table import table
    from vae.trained.load import load_model

__all__ = ["fit_density", "load_model", "table"]


def __getattr__(name: str) -> object:
    # torch is imported only when a name is used, so that `python train.py --help` is quick.
    if name == "load_model":
        from vae.trained.load import load_model

        return load_model
    if name == "fit_density":
        from vae.prior.fitted_density import fit_density

        return fit_density
    if name == "table":
        from vae.sweep.table import table

        return table
    raise AttributeError(f"module 'vae' has no attribute {name!r}")
