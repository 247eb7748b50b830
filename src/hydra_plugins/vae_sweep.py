"""Where Hydra looks for sweepers: it accepts only those of the package `hydra_plugins`.

Hydra imports this at every start, so it imports nothing heavy.
"""

from vae.sweep.adaptive import OptunaSweep
from vae.sweep.listed import ListedSweep
from vae.sweep.sweeper import GridSweep


class Grid(GridSweep):
    """`hydra/sweeper=basic`, in place of Hydra's own."""


class Optuna(OptunaSweep):
    """`hydra/sweeper=optuna`."""


class Listed(ListedSweep):
    """`hydra/sweeper=listed`."""
