"""What one forward pass yields: all that the ELBO, the IWAE bound and the NLL are made of."""

import math
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Terms:
    """Log-densities in nats, summed over pixels or latents, for K draws z ~ q(z|x) of each of B images.

    All but log p(x|z) are None where they were not asked for, since what is not needed is not computed.
    log_px_z: log p(x|z). log_pz: log p(z). log_qz: log q(z|x). kl: KL(q(z|x)‖p(z)) in closed form.
    latent_kl: KL(q(z_d|x)‖p(z_d)) of each latent, in closed form or from the draws. z: the draws.
    log_qz_path: log_qz again, but with gradients to the posterior's parameters only by way of z.
    """

    log_px_z: Float[Tensor, "K B"]
    log_pz: Float[Tensor, "K B"] | None = None
    log_qz: Float[Tensor, "K B"] | None = None
    kl: Float[Tensor, " B"] | None = None
    latent_kl: Float[Tensor, "B D"] | None = None
    z: Float[Tensor, "K B D"] | None = None
    log_qz_path: Float[Tensor, "K B"] | None = None
    # Means that are asked for twice; functools.cached_property has a lock, which torch.compile cannot enter.
    _means: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def log_w(self) -> Float[Tensor, "K B"]:
        """The log importance weights log p(x, z) − log q(z|x) (Burda et al. 2016, equation 8)."""
        return self.log_px_z - self._log_ratio

    @property
    def _log_ratio(self) -> Float[Tensor, "K B"]:
        """log q(z|x) − log p(z)."""
        assert self.log_qz is not None, "the densities of z were not asked for"
        assert self.log_pz is not None, "the densities of z were not asked for"
        return self.log_qz - self.log_pz

    @property
    def distortion(self) -> Float[Tensor, " B"]:
        """−E_q[log p(x|z)], the mean over the draws."""
        if "distortion" not in self._means:
            self._means["distortion"] = -self.log_px_z.mean(0)
        return self._means["distortion"]

    @property
    def sampled_rate(self) -> Float[Tensor, " B"]:
        """The Monte Carlo estimate of KL(q‖p), the mean of log q(z|x) − log p(z) over the draws."""
        return self._log_ratio.mean(0)

    @property
    def rate(self) -> Float[Tensor, " B"]:
        """KL(q‖p) for reports: in closed form where `kl` is there, else the Monte Carlo estimate."""
        return self.sampled_rate if self.kl is None else self.kl

    @property
    def elbo(self) -> Float[Tensor, " B"]:
        """−(distortion + rate), the bound at β = 1 (Kingma & Welling 2014, equation 3)."""
        return -(self.distortion + self.rate)

    @property
    def iwae_bound(self) -> Float[Tensor, " B"]:
        """log (1/K) Σ_k w_k, the K-sample bound (Burda et al. 2016, equation 8)."""
        return self.log_w.logsumexp(0) - math.log(len(self.log_px_z))
