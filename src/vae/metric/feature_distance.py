"""How near generated images are to real ones, in the features of a network."""

from collections.abc import Iterator
from math import nan

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import poly_mmd

from vae.checks import check_int
from vae.data import ImageDataModule
from vae.feature.network import load_features
from vae.metric.evaluated_batch import EvaluatedBatch, Sizes
from vae.metric.per_image import PerImage, standard_error
from vae.model import LatentModel
from vae.prior.fitted_density import fit_density
from vae.random import draw_key, set_draws

DENSITY_IMAGES = 10_000
"""Training images, at most, to whose latents a density is fitted."""
BLOCK = 1000
"""Images at a time: KID's subsets are customarily so large."""


class Generation(PerImage):
    """Distances between the evaluated images and as many generated ones, in the features of the network <name>:

    * `fid_<name>`: the Fréchet distance of two Gaussians (Heusel et al. 2017, equation 6), through torchmetrics;
    * `kid_<name>`, `kid_<name>_stderr`: the squared polynomial MMD, unbiased, a mean over disjoint subsets of
      at most 1,000 images (Bińkowski et al. 2018, section 4), through torchmetrics;
    * `precision_<name>`: the share of generated images within the `neighbors`-nearest-neighbour balls of the
      real ones, and `recall_<name>` the other way round (Kynkäänniemi et al. 2019, equation 2).

    The generated images are E[x|z] with z from the prior; `fid_<name>_density` and `kid_<name>_density` have
    z from a mixture of Gaussians fitted to the latents of training images (`vae.prior.fitted_density`), and
    `fid_<name>_reconstruction` and `kid_<name>_reconstruction` compare with the reconstructions. Only
    with `name` = inception are these the published FID and KID. Both depend on the number of images, which is
    that of the evaluated ones.

    Args:
        sizes: of the model.
        weights: the folder for weights, `paths.weights`.
        features: the network: `inception`, the path of a file that `python -m vae.features` wrote,
            `<module>:<name>` of one's own, or None for the file written for this data set. It becomes part of
            every number's name.
        neighbors: for precision and recall.
        components: Gaussians of the fitted density; 0 for none.

    Raises:
        MissingFeaturesError: the network is not there.
    """

    def __init__(
        self, sizes: Sizes, weights: str, features: str | None = None, neighbors: int = 3, components: int = 10
    ):
        network, name = load_features(features, weights, sizes.data_name, sizes.image_shape)
        empty = torch.empty(0, int(network.features))  # type: ignore[arg-type]
        super().__init__(real=empty, generated=empty, restored=empty, dense=empty)
        self.network, self.name = network, name
        self.neighbors = check_int("metric.test.generation.neighbors", neighbors)
        self.components = check_int("metric.test.generation.components", components, minimum=0)
        self.data: ImageDataModule | None = None
        self._density: Distribution | None = None

    def take_data(self, data: ImageDataModule) -> None:
        """Know where the training images are, to whose latents the density is fitted."""
        self.data = data

    def density(self, model: LatentModel) -> Distribution | None:
        """Return the density fitted to the model's latents (once); None of codes, and beside labels."""
        if model.posterior.codes or model.classes:
            return None
        if self._density is None and self.components and self.data is not None:
            images = self.data.images("train", DENSITY_IMAGES)[0]
            self._density = fit_density(model, images, min(self.components, len(images)))(model.encode)
        return self._density

    def update(self, batch: EvaluatedBatch) -> None:
        """Add the features of a batch, of its reconstructions, and of as many generated images."""
        features = {
            "real": self.network(batch.x),
            "generated": self._features_of_draws(batch, batch.model.p_z()),
        }
        restored = batch.reconstruction
        features["restored"] = features["real"] * nan if restored is None else self._features(restored)
        density = self.density(batch.model)
        features["dense"] = features["real"] * nan if density is None else self._features_of_draws(batch, density)
        self.add(batch.first, **features)

    def _features(self, images: Float[Tensor, "B C H W"]) -> Float[Tensor, "B F"]:
        return self.network(images.clamp(0, 1).float())

    def _features_of_draws(self, batch: EvaluatedBatch, p: Distribution) -> Float[Tensor, "B F"]:
        """Return the features of E[x|z] for as many z from p as the batch has images, and of the same classes."""
        set_draws(draw_key("generation", batch.key), batch.x.device)
        return self._features(batch.model.picture(p.sample(batch.x.shape[:1]), batch.label))

    def compute(self) -> dict[str, Tensor]:
        """Return all distances over the images so far; none for fewer than two images."""
        real, generated = self.rows("real").double(), self.rows("generated").double()
        if len(real) <= max(self.neighbors, 2):
            return {}
        kid, kid_stderr = kernel_distance(real, generated)
        values = {
            "fid": frechet_distance(real, generated),
            "kid": kid,
            "precision": coverage(real, generated, self.neighbors),
            "recall": coverage(generated, real, self.neighbors),
        }
        named = {f"{measure}_{self.name}": value for measure, value in values.items()}
        if kid_stderr.isfinite():  # not for a single subset
            named[f"kid_{self.name}_stderr"] = kid_stderr
        for kind, rows in (("reconstruction", "restored"), ("density", "dense")):
            others = self.rows(rows).double()
            if others.isfinite().all():
                named[f"fid_{self.name}_{kind}"] = frechet_distance(real, others)
                named[f"kid_{self.name}_{kind}"] = kernel_distance(real, others)[0]
        return named


class _AsTheyAre(nn.Module):
    """In place of torchmetrics' feature network, for what already are features."""

    def __init__(self, features: int):
        super().__init__()
        self.num_features = features

    def forward(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N F"]:
        return features


def frechet_distance(real: Float[Tensor, "N F"], generated: Float[Tensor, "M F"]) -> Float[Tensor, ""]:
    """‖μ₁ − μ₂‖² + tr(Σ₁ + Σ₂ − 2 (Σ₁Σ₂)^½) of the features' means and covariances."""
    distance = FrechetInceptionDistance(_AsTheyAre(real.shape[1]), sync_on_compute=False).to(real.device)
    distance.set_dtype(torch.float64)
    distance.update(real, real=True)
    distance.update(generated, real=False)
    return distance.compute()


def kernel_distance(
    real: Float[Tensor, "N F"], generated: Float[Tensor, "N F"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return the unbiased squared MMD with the kernel (xᵀy/F + 1)³, a mean over subsets, and its standard
    error.
    """
    blocks = max(1, len(real) // BLOCK)
    pairs = zip(real.tensor_split(blocks), generated.tensor_split(blocks), strict=True)
    values = torch.stack([poly_mmd(*pair) for pair in pairs])
    return values.mean(), standard_error(values)


def coverage(centres: Float[Tensor, "N F"], points: Float[Tensor, "M F"], neighbors: int) -> Float[Tensor, ""]:
    """Return the share of points within the ball of some centre, which reaches to its `neighbors`-th nearest
    centre.
    """
    radii = torch.cat([d.topk(neighbors + 1, largest=False)[0][:, -1] for d in _distances(centres, centres)])
    inside = [(distances <= radii).any(1) for distances in _distances(points, centres)]
    return torch.cat(inside).double().mean()


def _distances(points: Float[Tensor, "M F"], centres: Float[Tensor, "N F"]) -> Iterator[Float[Tensor, "_ N"]]:
    for part in points.split(BLOCK):
        yield torch.cdist(part, centres)
