"""`posterior=flow`: q(z|x) by a normalising flow from a diagonal Gaussian.

Both depend on the features.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Size, Tensor, nn
from torch.distributions import Distribution, Independent, Normal
from torch.distributions.transforms import Transform
from zuko.distributions import NormalizingFlow
from zuko.flows import MAF

from vae.checks import check_choice, check_int
from vae.posterior.diagonal_gaussian import log_init_sigma
from vae.posterior.posterior import Posterior
from vae.random import generator

MEAN_DRAWS = 64
"""The number of draws from which the mean of q(z|x) is computed.

Half of them are the negatives of the others.
"""


class FlowPosterior(Posterior):
    """The distribution of z = f(ε₀; x) with ε₀ ~ N(μ(x), diag σ²(x)).

    f is a chain of affine autoregressive or coupling layers. log q(z|x) = log N(ε₀; μ, σ²) − ln |det ∂f/∂ε₀| is
    computed with the draw in one pass (Kingma et al. 2016, Improved variational inference with inverse
    autoregressive flow, equations 10–14; coupling: Dinh et al. 2017). The density at a given z needs f⁻¹, which
    takes D passes for each layer if `autoregressive` and 2 if `coupling`.

    Args:
        features: F, the width of the encoder's output.
        latent_size: D.
        kind: `autoregressive` or `coupling`.
        transforms: the number of layers of f; each layer reverses the order of the latents.
        hidden_sizes: widths of the network in each layer.
        init_sigma: the approximate σ at the start, see `DiagonalGaussian`.
    """

    def __init__(
        self,
        features: int,
        latent_size: int,
        kind: str = "autoregressive",
        transforms: int = 2,
        hidden_sizes: Sequence[int] = (128, 128),
        init_sigma: float = 1.0,
    ):
        super().__init__(latent_size)
        self.log_init_sigma = log_init_sigma(init_sigma)
        check_choice("posterior.kind", kind, ("autoregressive", "coupling"))
        self.mean_and_log_scale = nn.Linear(features, 2 * latent_size)
        self.transform = MAF(
            features=latent_size,
            context=features,
            transforms=check_int("posterior.transforms", transforms, maximum=1000),
            hidden_features=[check_int("posterior.hidden_sizes", size) for size in hidden_sizes],
            passes=2 if kind == "coupling" else None,
        ).transform
        half = torch.randn(MEAN_DRAWS // 2, 1, latent_size, generator=generator("mean of a flow"), device="cpu")
        self.register_buffer("mean_noise", torch.cat((half, -half)), persistent=False)

    mean_noise: Tensor

    def forward(self, features: Float[Tensor, "B F"]) -> "FlowDistribution":
        """Return q(z|x), of batch shape (B,) and event shape (D,)."""
        mean, log_scale = self.mean_and_log_scale(features).chunk(2, dim=-1)
        scale = (log_scale + self.log_init_sigma).exp()
        base = Independent(Normal(mean, scale, validate_args=False), 1, validate_args=False)
        return FlowDistribution(self.transform(features), base, self.mean_noise.to(mean))

    def noise(self, k: int, images: int) -> Float[Tensor, "K B D"]:
        """Draw the noise of ε₀."""
        weight = self.mean_and_log_scale.weight
        return torch.randn(k, images, self.latent_size, dtype=weight.dtype, device=weight.device)

    def draw(self, q: Distribution, noise: Float[Tensor, "K B D"]) -> Float[Tensor, "K B D"]:
        """Return z = f(μ + σε)."""
        assert isinstance(q, FlowDistribution)
        return q.at(noise)


class FlowDistribution(NormalizingFlow):
    """The distribution of f(ε₀) with ε₀ from a diagonal Gaussian `base`.

    Args:
        generate: f.
        base: the Gaussian, of batch shape (B,) and event shape (D,).
        mean_noise: standard normal noise of shape (draws, 1, D), for the mean.
    """

    def __init__(self, generate: Transform, base: Independent, mean_noise: Float[Tensor, "S 1 D"]):
        super().__init__(generate.inv, base)
        self.mean_noise = mean_noise
        # The latest draw and its density. One pass gives both; by f⁻¹ the density would take D passes.
        self._latest: tuple[Tensor, Tensor] | None = None

    def at(self, noise: Float[Tensor, "*K B D"]) -> Float[Tensor, "*K B D"]:
        """Return f(μ + σε)."""
        normal = self.base.base_dist
        base_draw = normal.loc + normal.scale * noise
        z, log_det = self.transform.inv.call_and_ladj(base_draw)
        self._latest = z, self.base.log_prob(base_draw) - log_det
        return z

    def log_prob(self, value: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Return the log-density.

        It is computed by f⁻¹, unless `value` is the latest draw itself.
        """
        if self._latest is not None and value is self._latest[0]:
            return self._latest[1]
        return super().log_prob(value)

    def rsample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Return draws that are differentiable in the parameters."""
        loc = self.base.base_dist.loc
        return self.at(torch.randn(*sample_shape, *loc.shape, dtype=loc.dtype, device=loc.device))

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        """The mean E[z], estimated as the average of f over the same 64 draws each time.

        There is no closed form for it.
        """
        normal = self.base.base_dist
        return self.transform.inv(normal.loc + normal.scale * self.mean_noise).mean(0)

    def sample(self, sample_shape: Size | list[int] | tuple[int, ...] = ()) -> Float[Tensor, "..."]:
        """Return draws without a gradient."""
        with torch.no_grad():
            return self.rsample(Size(sample_shape))
