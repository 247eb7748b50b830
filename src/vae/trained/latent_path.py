"""Ways through the latent space."""

import torch
from jaxtyping import Float
from torch import Tensor


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
