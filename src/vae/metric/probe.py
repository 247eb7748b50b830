"""Probes: simple classifiers that show what the latents know about the images."""

from typing import Any

import torch
from torch import Tensor

from vae.checks import ConfigError, check_int
from vae.data import ImageDataModule
from vae.metric.evaluated_batch import EvaluatedBatch, Sizes
from vae.metric.per_image import PerImage


class Probe(PerImage):
    """The accuracy of classifiers that predict the label from the posterior mean.

    * `linear_probe_accuracy`: logistic regression on standardised latents;
    * `knn_accuracy`: the majority among the `neighbors` nearest latents.

    Each classifier is tested on images that it has not seen, by cross-validation over the evaluated images with
    `folds` stratified folds. So nothing depends on what the model was trained with. There is no probe unless at
    least two labels have `folds` images each. If the images have attributes (data=celeba), there are also

    * `attribute_probe_accuracy`: the mean over attributes of the linear probe's accuracy;
    * `attribute_base_accuracy`: the mean accuracy if the more common answer is always given.

    Args:
        sizes: the sizes of the model.
        neighbors: the number of neighbours of the k-nearest-neighbour classifier.
        folds: the number of folds of the cross-validation.
    """

    def __init__(self, sizes: Sizes, neighbors: int = 10, folds: int = 5):
        super().__init__(
            mean=torch.empty(0, sizes.latent_size),
            label=torch.empty(0, dtype=torch.int64),
        )
        self.neighbors = check_int("metric.test.probe.neighbors", neighbors)
        self.folds = check_int("metric.test.probe.folds", folds, minimum=2)

        self.attributes: Tensor | None = None
        self.note: str | None = None

    def take_data(self, data: ImageDataModule) -> None:
        """Take the attributes of the evaluated images, if their data set has attributes."""
        if type(data).attributes is ImageDataModule.attributes:
            return
        try:
            self.attributes = data.attributes(data.tested_split).values
        except ConfigError as error:
            self.note = f"no attribute probe: {error}"

    def update(self, batch: EvaluatedBatch) -> None:
        """Add one batch."""
        self.add(batch.first, mean=batch.posterior_mean, label=batch.label)

    def compute(self) -> dict[str, Tensor]:
        """Return the accuracies over all images so far."""
        mean, label = self.rows("mean").cpu(), self.rows("label").cpu()
        rows, values = self._enough(label), {}
        if len(label[rows].unique()) > 1:
            values["linear_probe_accuracy"] = self._accuracy(linear_probe(), mean[rows], label[rows])
            values["knn_accuracy"] = self._accuracy(self._neighbours(), mean[rows], label[rows])
        if self.attributes is not None:
            values |= self._attribute_accuracy(mean, self.attributes[: len(mean)].long())
        return values

    def _enough(self, label: Tensor) -> Tensor:
        """Return a mask of the images whose label is frequent enough to occur in every fold."""
        return (label.bincount() >= self.folds)[label]

    def _attribute_accuracy(self, mean: Tensor, attributes: Tensor) -> dict[str, Tensor]:
        """Return means over those attributes that every fold can have both with and without."""
        known = [value for value in attributes.T if min(value.sum(), (1 - value).sum()) >= self.folds]
        if not known:
            return {}
        shares = torch.stack(known).double().mean(1)
        return {
            "attribute_probe_accuracy": torch.stack(
                [self._accuracy(linear_probe(), mean, v) for v in known]
            ).mean(),
            "attribute_base_accuracy": torch.maximum(shares, 1 - shares).mean(),
        }

    def _neighbours(self) -> Any:
        from sklearn.neighbors import KNeighborsClassifier

        return KNeighborsClassifier(self.neighbors)

    def _accuracy(self, classifier: Any, mean: Tensor, label: Tensor) -> Tensor:
        from sklearn.model_selection import StratifiedKFold, cross_val_score

        folds = StratifiedKFold(self.folds, shuffle=True, random_state=0)
        scores = cross_val_score(classifier, mean.double().numpy(), label.numpy(), cv=folds)
        return torch.tensor(float(scores.mean()), dtype=torch.float64)


def linear_probe() -> Any:
    """Return a logistic regression on standardised latents."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
