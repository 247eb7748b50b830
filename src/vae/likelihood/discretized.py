"""p(x|z) over the 256 levels of a byte. These are real probabilities, so that bits per dimension are exact."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Independent

from vae.checks import check_int, check_number
from vae.likelihood.gaussian import raw_from_sigma
from vae.likelihood.likelihood import Likelihood
from vae.likelihood.rounded import RoundedLogisticMixture, RoundedNormal


class DiscretizedGaussian(Likelihood):
    """`likelihood=discretized_gaussian`: the Gaussian with a fixed σ, over 256 levels.

    log P(x|z) = Σ_pixels ln [Φ((x + 1/510 − μ) / σ) − Φ((x − 1/510 − μ) / σ)] (Ho et al. 2020, Denoising diffusion
    probabilistic models, equation 13).

    Args:
        image_shape: (C, H, W).
        sigma: σ > 0, in units of x (the range of a pixel is 1).
    """

    support = "bytes"

    def __init__(self, image_shape: tuple[int, int, int], sigma: float = 0.1):
        super().__init__(image_shape)
        sigma = check_number("likelihood.sigma", sigma, above=0)
        self.register_buffer("sigma", torch.tensor(sigma), persistent=False)

    sigma: Tensor

    def forward(self, params: Float[Tensor, "*N C H W"]) -> Independent:
        """Return p(x|z), of event shape (C, H, W)."""
        return Independent(RoundedNormal(params, self.sigma), 3, validate_args=False)

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "C H W"]:
        """Return the decoder output for which the mean before rounding is `mean`."""
        return mean

    @property
    def spread(self) -> Float[Tensor, ""]:
        """σ."""
        return self.sigma


class DiscretizedLogistic(Likelihood):
    """`likelihood=discretized_logistic`: a mixture of logistics for each pixel, over 256 levels.

    P(x|z) = Π_pixels Σ_i π_i [sigmoid((x + 1/510 − μ_i) / s_i) − sigmoid((x − 1/510 − μ_i) / s_i)] with π, μ
    and s from the decoder (Salimans et al. 2017, PixelCNN++, equation 2; channels are independent here).

    Args:
        image_shape: (C, H, W).
        components: the number of logistics in the mixture.
        init_scale: s at the start.
        min_scale: the lower bound of s, below `init_scale`.
    """

    support = "bytes"
    decodes_spread = True

    def __init__(
        self,
        image_shape: tuple[int, int, int],
        components: int = 1,
        init_scale: float = 0.2,
        min_scale: float = 0.002,
    ):
        channels, height, width = image_shape
        check_int("likelihood.components", components)
        parts = 3 if components > 1 else 2  # a single component has no weight to learn
        super().__init__((parts * components * channels, height, width))
        self.components, self.parts = components, parts
        self.init_raw_scale = raw_from_sigma(init_scale, min_scale, "scale")
        self.min_scale = float(min_scale)

    def forward(self, params: Float[Tensor, "*N P H W"]) -> Independent:
        """Return p(x|z), of event shape (C, H, W), from maps in the order (part, component, channel)."""
        maps = params.unflatten(-3, (self.parts, self.components, -1))
        mean, raw_scale, *logits = maps.unbind(-5)  # (*N, components, C, H, W) each
        log_weight = logits[0].log_softmax(-4) if logits else torch.zeros_like(mean)
        mixture = RoundedLogisticMixture(mean, self.min_scale + F.softplus(raw_scale), log_weight)
        return Independent(mixture, 3, validate_args=False)

    def params_from_mean(self, mean: Float[Tensor, "C H W"]) -> Float[Tensor, "P H W"]:
        """Return the decoder output for which all components are near `mean`.

        They are spread a little, so that they differ.
        """
        offsets = torch.linspace(-1, 1, self.components) if self.components > 1 else torch.zeros(1)
        means = mean + 0.1 * offsets.to(mean)[:, None, None, None]
        maps = [means, torch.full_like(means, self.init_raw_scale), torch.zeros_like(means)]
        return torch.stack(maps[: self.parts]).flatten(0, 2)
