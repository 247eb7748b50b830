"""A density fitted to the latents of a trained model, to sample from in place of its prior."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical, Distribution, MixtureSameFamily, MultivariateNormal

from vae.checks import ConfigError, check_choice, check_int
from vae.prior.prior import Prior
from vae.progress import task


class FittedDensity(Prior):
    """Σ_i π_i N(z; m_i, L_i L_iᵀ) with fixed numbers: a prior with the same `forward` as trained priors.

    Args:
        weight: π.
        mean: m.
        scale_tril: L, lower triangular.
    """

    weight: Tensor
    mean: Tensor
    scale_tril: Tensor

    def __init__(
        self, weight: Float[Tensor, " M"], mean: Float[Tensor, "M D"], scale_tril: Float[Tensor, "M D D"]
    ):
        super().__init__()
        for name, value in (("weight", weight), ("mean", mean), ("scale_tril", scale_tril)):
            self.register_buffer(name, value)

    def forward(self, encode: Callable[[Tensor], Distribution]) -> MixtureSameFamily:
        """Return the distribution over z, of event shape (D,). `encode` (x → q(z|x)) is not used."""
        normals = MultivariateNormal(self.mean, scale_tril=self.scale_tril, validate_args=False)
        return MixtureSameFamily(Categorical(self.weight, validate_args=False), normals, validate_args=False)


@runtime_checkable
class Encodes(Protocol):
    """A model with latents to which a density can be fitted, such as a `vae.model.LatentModel`."""

    @property
    def device(self) -> torch.device:
        """The device on which it computes."""

    def encode(self, x: Tensor) -> Distribution:
        """Return q(z|x)."""


@torch.no_grad()
def fit_density(
    model: Encodes,
    images: Float[Tensor, "N C H W"],
    components: int = 10,
    of: str = "draws",
    seed: int = 0,
) -> FittedDensity:
    """Fit a Gaussian (`components=1`) or a mixture of Gaussians, each with its full covariance, to the latents.

    Without it, an autoencoder has no useful prior to sample from. A VAE gains too if its posteriors together
    differ from its prior (Ghosh et al. 2020, From variational to deterministic autoencoders, section 4). The fit
    is by expectation–maximisation (scikit-learn's GaussianMixture).

    ```python
    model = load_model("runs/…").model
    model.prior = fit_density(model, x, components=10)  # x: training images in [0, 1]
    model.sample(64)
    ```

    If it replaces the prior, `model.log_marginal` is that of the new model p(x|z) p̂(z). This is useful for a VAE.
    For an autoencoder it is infinite, because there is no q(z|x) to draw from.

    Args:
        model: a trained model. It is not changed.
        images: training images; thousands are enough.
        components: the number of Gaussians in the mixture.
        of: what the density is fitted to: one draw of q(z|x) for each image (`draws`: the aggregate posterior) or
            its mean (`means`). For `posterior=delta` they are the same.
        seed: the seed of the draws and of the start of the fit.

    Raises:
        ConfigError: there are more components than images, or an option has an unknown value.
    """
    from sklearn.mixture import GaussianMixture

    check_choice("of", of, ("draws", "means"))
    if check_int("components", components) > len(images):
        raise ConfigError(f"components={components}: must be at most the number of images, {len(images)}")
    with torch.random.fork_rng(devices=[model.device] if model.device.type == "cuda" else []):
        torch.manual_seed(seed)
        posteriors = (model.encode(x.to(model.device)) for x in images.split(512))
        z = torch.cat([q.mean if of == "means" else q.sample() for q in posteriors]).cpu().double()
    with task(f"fitting {components} Gaussians to the codes of {len(z):,} images"):
        mixture = GaussianMixture(components, covariance_type="full", reg_covar=1e-6, random_state=seed)
        fit = mixture.fit(z.numpy())
    covariance = torch.from_numpy(fit.covariances_)
    parts = (torch.from_numpy(fit.weights_), torch.from_numpy(fit.means_), torch.linalg.cholesky(covariance))
    return FittedDensity(*(part.float() for part in parts)).to(model.device)
