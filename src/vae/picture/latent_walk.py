"""Images along ways through the latent space: interpolation, traversal, manifold, movement along a direction."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from vae.checks import ConfigError, check_choice, check_int, check_number
from vae.model import LatentModel

BATCH = 256
"""Images decoded together, so that memory does not grow with their number."""
SIDE = 20
"""Images in a row of the manifold."""


@torch.no_grad()
def images_at(
    model: LatentModel, z: Float[Tensor, "*N D"], show: str = "means", label: Int64[Tensor, " B"] | None = None
) -> Float[Tensor, "*N C H W"]:
    """Decode codes of any leading shape, a batch at a time.

    Args:
        model: the model.
        z: the codes.
        show: `means` for E[x|z], or `samples` for draws x ~ p(x|z), which carry the likelihood's noise.
        label: y along the last axis of N, for a model that is told it.
    """
    check_choice("show", show, ("means", "samples"))
    parts = z.to(model.device).reshape(-1, z.shape[-1]).split(BATCH)
    of = [None] * len(parts) if label is None else label.expand(*z.shape[:-2], -1).reshape(-1).split(BATCH)
    images = torch.cat(
        [
            model.picture(part, y) if show == "means" else model.decode(part, y).sample()
            for part, y in zip(parts, of, strict=True)
        ]
    )
    return images.reshape(*z.shape[:-1], *images.shape[1:])


@torch.no_grad()
def interpolate(
    model: LatentModel,
    start: Float[Tensor, "R C H W"],
    end: Float[Tensor, "S C H W"],
    steps: int = 10,
    kind: str = "linear",
) -> Float[Tensor, "R steps C H W"]:
    """Decode the way from the posterior mean of one image to that of another.

    Args:
        model: the model.
        start: where each way begins.
        end: where it ends; as many images.
        steps: images on the way, both ends included.
        kind: `linear`, or `spherical` (White 2016, Sampling generative networks, section 2.1).

    Raises:
        ConfigError: there are not as many ends as starts.
    """
    check_int("steps", steps, minimum=2)
    check_choice("kind", kind, ("linear", "spherical"))
    if len(start) != len(end):
        raise ConfigError(f"interpolate: {len(start)} images to start from and {len(end)} to end at; give as many")
    a, b = model.encode(start).mean[:, None], model.encode(end).mean[:, None]
    weight = torch.linspace(0, 1, steps, device=a.device)[None, :, None]
    return images_at(model, torch.lerp(a, b, weight) if kind == "linear" else spherical(a, b, weight))


def spherical(
    start: Float[Tensor, "... D"], end: Float[Tensor, "... D"], weight: Float[Tensor, "..."]
) -> Float[Tensor, "... D"]:
    """sin((1−w)θ)/sin θ · start + sin(wθ)/sin θ · end, with θ the angle between the two.

    Lengths stay between those of the ends, as those of draws from N(0, I) do, where a straight line would
    pass through the improbable middle (White 2016, Sampling generative networks, section 2.1). For parallel
    ends it is the straight line.
    """
    cosine = torch.cosine_similarity(start, end, dim=-1).clamp(-1, 1).unsqueeze(-1)
    angle = cosine.acos()
    sine = angle.sin()
    straight = sine < 1e-6
    sine = torch.where(straight, torch.ones_like(sine), sine)
    curved = ((1 - weight) * angle).sin() / sine * start + (weight * angle).sin() / sine * end
    return torch.where(straight, torch.lerp(start, end, weight.expand_as(curved)), curved)


def traverse(
    model: LatentModel, centre: Float[Tensor, " D"], steps: int = 7, span: float = 3.0
) -> Float[Tensor, "D steps C H W"]:
    """Decode codes of which one latent after the other goes from −span to span, the others as in `centre`.

    Args:
        model: the model.
        centre: a code.
        steps: images for each latent.
        span: how far, in standard deviations of a standard normal prior.
    """
    check_int("steps", steps, minimum=2)
    check_number("span", span, above=0)
    size = len(centre)
    z = centre.expand(size, steps, size).clone()
    z[torch.arange(size), :, torch.arange(size)] = torch.linspace(-span, span, steps, device=z.device)
    return images_at(model, z)


def quantiles(side: int = SIDE) -> Float[Tensor, " side"]:
    """Values of a standard normal variable that are equally probable, from the smallest."""
    return torch.special.ndtri(torch.linspace(0.5 / side, 1 - 0.5 / side, side))


def manifold(model: LatentModel, side: int = SIDE) -> Float[Tensor, "N C H W"]:
    """For D = 2: decode a grid of equally probable z, row by row (Kingma & Welling 2014, figure 4).

    From row to row z₂ falls, and in each row z₁ rises, as on the axes of a plot.

    Raises:
        ConfigError: the model has not two latents.
    """
    if model.latent_size != 2:
        raise ConfigError(f"picture=manifold: needs latent_size=2, but this run has {model.latent_size}")
    values = quantiles(side)
    return images_at(model, torch.cartesian_prod(values.flip(0), values).flip(1))


@torch.no_grad()
def move(
    model: LatentModel, x: Float[Tensor, "B C H W"], along: Float[Tensor, " D"], strengths: Float[Tensor, " S"]
) -> Float[Tensor, "B S C H W"]:
    """Decode E[z|x] + s · along for each strength s (0 gives the plain reconstruction)."""
    return images_at(model, model.encode(x).mean[:, None] + strengths.to(along)[:, None] * along)
