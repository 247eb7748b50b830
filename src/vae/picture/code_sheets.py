"""Sheets of codes: those of images, all of a single latent, and samples with and without the prior."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Size, Tensor

from vae.bound.codes import Codes
from vae.checks import ConfigError
from vae.model import LatentModel
from vae.picture.latent_walk import images_at
from vae.picture.sheet import Sheet

COMPONENTS = 100
"""Codes of a single latent that are shown, at most: the most probable ones."""


def code_sheets(
    model: LatentModel, x: Float[Tensor, "N C H W"], of: str = "images", n: int = 40
) -> dict[str, Sheet]:
    """Return the sheets of a model with codes, by name.

    `codes`: images, their codes, and what is decoded from them; `components`: of a single latent, what each of its
    classes is; `samples_uniform`: samples from the prior beside samples of codes that are all equally probable.

    Args:
        model: the model.
        x: images.
        of: what they are.
        n: samples from each.

    Raises:
        ConfigError: the model has no codes.
    """
    codes = codes_of(model)
    sheets = {"samples_uniform": _uniform_sheet(model, codes, n)}
    if model.posterior.enumerated:
        return {"components": _components_sheet(model, codes), **sheets}
    return {"codes": _codes_sheet(model, codes, x, of), **sheets}


def codes_of(model: LatentModel) -> Codes:
    """Return what the codes of a model are made of.

    Raises:
        ConfigError: the model has none.
    """
    if model.posterior.codes is None:
        raise ConfigError(f"picture=codes: posterior={type(model.posterior).__name__} has no codes")
    return model.posterior.codes


@torch.no_grad()
def _codes_sheet(model: LatentModel, codes: Codes, x: Float[Tensor, "N C H W"], of: str) -> Sheet:
    z = model.encode(x).mean
    chosen = model.posterior.codes_of(z).unflatten(-1, (1, codes.height, codes.width))
    maps = F.interpolate(chosen.float() / (codes.classes - 1), size=x.shape[-2:])
    restored = images_at(model, model.posterior.vectors(model.posterior.codes_of(z)))
    together = torch.stack((x, maps.expand_as(x), restored), 1).flatten(0, 1)
    what = f"{of[0].upper()}{of[1:]}, their {codes.height}×{codes.width} codes, each one of {codes.classes}"
    title = f"{what}, and what these decode to"
    return Sheet(together, 12, title, group=3)


@torch.no_grad()
def _components_sheet(model: LatentModel, codes: Codes) -> Sheet:
    z = model.posterior.vectors(torch.arange(codes.classes, device=model.device)[:, None])
    log_p = model.p_z().log_prob(z)
    order = log_p.argsort(descending=True)[:COMPONENTS]
    of = "" if len(order) == codes.classes else f" most probable of the {codes.classes}"
    return Sheet(images_at(model, z[order]), 10, f"The {len(order)}{of} components, the most probable first")


@torch.no_grad()
def _uniform_sheet(model: LatentModel, codes: Codes, n: int) -> Sheet:
    learned = images_at(model, model.p_z().sample(Size((n,))))
    evenly = torch.randint(codes.classes, (n, codes.count), device=model.device)
    uniform = images_at(model, model.posterior.vectors(evenly))
    rows = zip(learned.split(8), uniform.split(8), strict=True)
    title = "Samples from the prior, and of codes that are all equally probable"
    return Sheet(torch.cat([part for row in rows for part in row]), 16, title, group=8)
