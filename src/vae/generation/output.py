"""In which forms pictures are kept, and where."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float
from torch import Tensor

from vae.checks import check_choice
from vae.picture.figure import SUFFIXES, save_figure, save_single_images

FORMS = ("grid", "single", "npz")


class Output:
    """Keeps images in the forms that are asked for.

    Args:
        folder: where to.
        title: of the run, behind what each picture shows.
        figure_format: png, pdf or svg, of grids.
        forms: `grid` (a picture of all), `single` (a PNG of each) and `npz` (all as one array).

    Raises:
        ConfigError: there is no such form or format.
    """

    def __init__(self, folder: Path, title: str, figure_format: str, forms: Sequence[str]):
        self.folder, self.title = folder, title
        self.suffix = "." + check_choice("format", figure_format, [suffix[1:] for suffix in SUFFIXES])
        self.forms = [check_choice("save", form, FORMS) for form in forms]

    def save(
        self,
        name: str,
        images: Float[Tensor, "N C H W"],
        columns: int,
        what: str,
        shown: Float[Tensor, "M C H W"] | None = None,
        row_names: Sequence[str] = (),
    ) -> Iterator[Path]:
        """Save images, and give the paths.

        Args:
            name: of the files, without their ending.
            images: what is saved singly and as an array.
            columns: of the grid.
            what: the title of the grid says this before the run's.
            shown: what the grid has, if not just `images`.
            row_names: of the grid.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if "grid" in self.forms:
            path = self.folder / f"{name}{self.suffix}"
            save_figure(path, images if shown is None else shown, columns, f"{what} · {self.title}", row_names)
            yield path
        if "single" in self.forms:
            save_single_images(self.folder / name, images)
            yield self.folder / name
        if "npz" in self.forms:
            path = self.folder / f"{name}.npz"
            np.savez_compressed(path, images=images.detach().cpu().numpy())
            yield path
