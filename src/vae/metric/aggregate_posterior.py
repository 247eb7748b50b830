"""How the rate divides into what z says about x and how far all z together are from the prior."""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from vae.checks import check_int
from vae.metric.evaluated_batch import EvaluatedBatch, Sizes
from vae.metric.per_image import PerImage, standard_error
from vae.random import draw_key, set_draws

ROWS = 500
"""Draws of z that are compared with all images at a time."""


class AggregatePosterior(PerImage):
    """rate = mutual_information + marginal_kl, with q(z) = (1/N) Σ_n q(z|x_n) over the N evaluated images:

    * `mutual_information`: I_q(x; z) = mean_n KL(q(z|x_n)‖q(z)), at most ln N, with `mutual_information_stderr`;
    * `marginal_kl`: KL(q(z)‖p(z)), with `marginal_kl_stderr`;

    in nats, with a draw of z for each image (Hoffman & Johnson 2016, ELBO surgery, equation 11).

    Where q(z|x) is a diagonal Gaussian and N is at most `exact_below`, q(z) is summed over all N images.
    Otherwise it is estimated, without bias, from the image's own term and those of its batch:
    (1/N) q(z|x_i) + (N−1)/N · mean_{j≠i} q(z|x_j), the stratified weights of Chen et al. 2018, Isolating
    sources of disentanglement, appendix C; its logarithm is then biased downwards. `mutual_information_exact`
    says (1 or 0) whether the sum was over all.

    Args:
        sizes: of the model.
        exact_below: so many images, at most, are compared with each other.
    """

    def __init__(self, sizes: Sizes, exact_below: int = 20_000):
        self.exact_below = check_int("metric.test.aggregate_posterior.exact_below", exact_below, minimum=0)
        vectors = torch.empty(0, sizes.latent_size, dtype=torch.float64)
        super().__init__(
            log_p=torch.empty(0, dtype=torch.float64),
            log_own=torch.empty(0, dtype=torch.float64),
            log_others=torch.empty(0, dtype=torch.float64),
            z=vectors,
            mean=vectors,
            scale=vectors,
        )
        self.has_density = sizes.has_density

    def update(self, batch: EvaluatedBatch) -> None:
        """Add one batch; a batch of one image has nothing to be compared with and is left out, as is a point q."""
        if len(batch.x) < 2 or not self.has_density:
            return
        set_draws(draw_key("aggregate posterior", batch.key), batch.x.device)
        z = batch.q.sample()
        pairs = _log_prob_of_pairs(batch.q, z)  # (B draws, B images)
        own = pairs.diagonal()
        others = pairs.masked_fill(torch.eye(len(z), dtype=torch.bool, device=z.device), -math.inf).logsumexp(1)
        gaussian = _is_diagonal_gaussian(batch.q)
        nothing = torch.full_like(z, math.nan)
        self.add(
            batch.first,
            log_p=batch.model.p_z().log_prob(z),
            log_own=own,
            log_others=others - math.log(len(z) - 1),
            z=z,
            mean=batch.q.base_dist.loc if gaussian else nothing,  # type: ignore[attr-defined]
            scale=batch.q.base_dist.scale if gaussian else nothing,  # type: ignore[attr-defined]
        )

    def compute(self) -> dict[str, Tensor]:
        """Return the two parts of the rate so far."""
        own, scale = self.rows("log_own"), self.rows("scale")
        n = len(own)
        if n == 0:
            return {}
        exact = n <= self.exact_below and bool(scale.isfinite().all())
        if exact:
            log_q = _log_mixture(self.rows("z"), self.rows("mean"), scale)
        else:
            log_q = torch.logaddexp(own - math.log(n), self.rows("log_others") + math.log((n - 1) / n))
        divergence = log_q - self.rows("log_p")
        return {
            "mutual_information": (own - log_q).mean(),
            "mutual_information_stderr": standard_error(own - log_q),
            "mutual_information_exact": own.new_tensor(float(exact)),
            "marginal_kl": divergence.mean(),
            "marginal_kl_stderr": standard_error(divergence),
        }


def _is_diagonal_gaussian(q: Distribution) -> bool:
    return isinstance(q, Independent) and isinstance(q.base_dist, Normal)


def _log_prob_of_pairs(q: Distribution, z: Float[Tensor, "B D"]) -> Float[Tensor, "B B"]:
    """Return log q(z_i|x_j) of every draw and every image, in float64."""
    draws = z[:, None].expand(-1, len(z), -1)
    return torch.cat([q.log_prob(part) for part in draws.split(64)]).double()


def _log_mixture(
    z: Float[Tensor, "N D"], mean: Float[Tensor, "N D"], scale: Float[Tensor, "N D"]
) -> Float[Tensor, " N"]:
    """Return log (1/N) Σ_n N(z; μ_n, σ_n²) at each z, the squares multiplied out so that it is products of
    matrices.
    """
    precision = scale.square().reciprocal()
    # Around the common centre, so that little is lost where the terms of (z − μ)² cancel.
    centre = mean.mean(0)
    z, mean = z - centre, mean - centre
    constant = (
        scale.log().sum(1) + 0.5 * mean.square().mul(precision).sum(1) + 0.5 * z.shape[1] * math.log(2 * math.pi)
    )
    parts = [
        (part @ (mean * precision).T - 0.5 * part.square() @ precision.T - constant).logsumexp(1)
        for part in z.split(ROWS)
    ]
    return torch.cat(parts) - math.log(len(mean))
