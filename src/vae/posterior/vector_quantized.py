"""`posterior=vector_quantized`: each vector replaced by the nearest of a codebook that is learned."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, distributed, nn
from torch.distributions import Distribution

from vae.bound.codes import PointCode
from vae.bound.ranks import several_ranks
from vae.checks import ConfigError, check_bool, check_int, check_number
from vae.posterior.quantized import Quantized, nearest

EPSILON = 1e-5
"""Added to the counts of codes, of which an average is taken."""


class VectorQuantized(Quantized):
    """z_i = v_c with c = argmin_k ‖e_i − v_k‖ (van den Oord et al. 2017, Neural discrete representation learning).

    The gradient to z is passed to e as it is (equation 2). While training the loss has further terms, which no
    bound knows: β Σ_i ‖e_i − sg(v)‖², by which the encoder commits itself to a code; and for a codebook that
    learns by gradient Σ_i ‖sg(e_i) − v‖² (equation 3). Otherwise a code's vector is the average of the e that
    chose it, over the latest 1/(1 − decay) steps (appendix A.1). The codebook starts at the centres of a k-means
    of training images.

    A code whose share of the choices falls below `restart_below` of an equal share is set to an e of the batch
    (Dhariwal et al. 2020, Jukebox, section 3, where the threshold is a count).

    Own code and not a library's: vector-quantize-pytorch changes its codebook within `forward`, which is also
    called where nothing may change (to try a combination, and a second time for gradients), and starts it from
    the first batch, which differs among ranks.

    Args:
        features: F, the width of the encoder's output.
        latent_size: n, the number of codes.
        codes: K.
        code_size: d, the numbers of a code's vector.
        commitment: β ≥ 0, in nats.
        decay: of the averages, in [0, 1); None for a codebook that learns by gradient.
        kmeans: whether it starts at centres of training images, and not at draws from N(0, 1).
        restart_below: in [0, 1); 0 for never.
        grid: (h, w), see `Quantized`.
    """

    adapts = True
    has_penalty = True
    share: Tensor
    total: Tensor

    def __init__(
        self,
        features: int,
        latent_size: int,
        codes: int = 128,
        code_size: int = 16,
        commitment: float = 0.25,
        decay: float | None = 0.99,
        kmeans: bool = True,
        restart_below: float = 0.1,
        grid: Sequence[int] | None = None,
    ):
        count, width = check_int("posterior.codes", codes, minimum=2), check_int("posterior.code_size", code_size)
        super().__init__(features, latent_size, count, width, grid)
        self.commitment = check_number("posterior.commitment", commitment, minimum=0)
        self.decay = None if decay is None else check_number("posterior.decay", decay, minimum=0, maximum=1 - 1e-6)
        self.kmeans = check_bool("posterior.kmeans", kmeans)
        self.restart_below = check_number("posterior.restart_below", restart_below, minimum=0, maximum=1)
        start = torch.randn(count, width)
        if self.decay is None:
            self.codebook = nn.Parameter(start)
        else:
            self.register_buffer("codebook", start)
            self.register_buffer("total", start / count)
        # Of the choices, an average over the latest steps.
        self.register_buffer("share", torch.full((count,), 1 / count))
        self._seen: tuple[Tensor, Tensor] | None = None

    @property
    def images_needed(self) -> int:  # type: ignore[override]
        """Training images that `start_from_features` must be given."""
        return self.codes.classes if self.kmeans else 0

    @torch.no_grad()
    def start_from_features(self, features: Float[Tensor, "N F"]) -> None:
        """Start the codebook at the centres of a k-means of these images' vectors.

        Raises:
            ConfigError: there are fewer images than codes.
        """
        from sklearn.cluster import MiniBatchKMeans

        if len(features) < self.codes.classes:
            raise ConfigError(
                f"posterior.codes={self.codes.classes}: must be at most the {len(features)} training images"
            )
        e = self.vectors_of(features).flatten(0, 1).double().cpu()
        fit = MiniBatchKMeans(self.codes.classes, n_init=1, max_iter=20, random_state=0).fit(e.numpy())
        self.codebook.copy_(torch.from_numpy(fit.cluster_centers_))
        if self.decay is not None:
            self.total.copy_(self.codebook / self.codes.classes)

    def forward(self, features: Float[Tensor, "B F"]) -> PointCode:
        """q(z|x), of batch shape (B,) and event shape (D,)."""
        e = self.vectors_of(features)
        codes = nearest(e.flatten(0, 1), self.codebook).unflatten(0, e.shape[:2])
        if self.training:
            self._seen = e.detach().flatten(0, 1), codes.flatten()
        return self.point(e, codes)

    def penalty(self, q: Distribution) -> Float[Tensor, " B"]:
        """Return the commitment, and the codebook's own error where it learns by gradient."""
        assert isinstance(q, PointCode)
        assert q.before is not None
        e, v = q.before.flatten(1), self.vectors(q.codes)
        committed = self.commitment * (e - v.detach()).square().sum(1)
        return committed if self.decay is not None else committed + (e.detach() - v).square().sum(1)

    def vectors(self, codes: Int64[Tensor, "*N n"]) -> Float[Tensor, "*N D"]:
        """Return the codebook's vectors."""
        return F.embedding(codes, self.codebook).flatten(-2)

    def codes_of(self, z: Float[Tensor, "*N D"]) -> Int64[Tensor, "*N n"]:
        """Return the codes of the nearest vectors."""
        e = z.unflatten(-1, (-1, self.width))
        return nearest(e.flatten(0, -2), self.codebook).reshape(e.shape[:-1])

    @torch.no_grad()
    def after_step(self) -> None:
        """Let the codebook follow the choices of the step that has been made, on all ranks alike."""
        assert self._seen is not None
        (e, chosen), classes = self._seen, self.codes.classes
        self._seen = None
        # As a product, whose sums are the same at every run on a GPU, too.
        chosen_by = (chosen.unsqueeze(1) == torch.arange(classes, device=e.device)).to(e)
        count, total = chosen_by.sum(0), chosen_by.T @ e
        fresh = e[torch.randint(len(e), (classes,), device=e.device)]
        if several_ranks():
            distributed.all_reduce(count)
            distributed.all_reduce(total)
            distributed.broadcast(fresh, 0)
        # A step that is left out, or ends the run, must not spoil the codebook. Said without waiting for a device.
        good = total.isfinite().all()
        total, choices = total.nan_to_num(0, 0, 0), count.sum()
        rate = good * (1 - (0.99 if self.decay is None else self.decay))
        self.share.lerp_(count / choices, rate)
        if self.decay is not None:
            self.total.lerp_(total / choices, rate)
            smoothed = (self.share + EPSILON) / (1 + classes * EPSILON)
            self.codebook.copy_(torch.where(good, self.total / smoothed.unsqueeze(1), self.codebook))
        dead = good & (self.share < self.restart_below / classes)
        self.share.masked_fill_(dead, 1 / classes)
        self.codebook.copy_(torch.where(dead.unsqueeze(1), fresh, self.codebook))
        if self.decay is not None:
            self.total.copy_(torch.where(dead.unsqueeze(1), fresh / classes, self.total))
