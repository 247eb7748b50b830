"""The training of the classifier whose features are used to compare images."""

from collections.abc import Iterator
from itertools import count, islice

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64
from torch import Tensor

from vae.checks import ConfigError
from vae.data import ImageDataModule
from vae.data.batches import Draw, TrainBatches
from vae.feature.network import Classifier
from vae.progress import through

BATCH = 128


def train_classifier(data: ImageDataModule, steps: int, lr: float, seed: int) -> Classifier:
    """Train a classifier on the training images, by Adam with a learning rate that falls to zero.

    It learns their labels. If they have attributes and no labels (CelebA), it learns the attributes.

    Raises:
        ConfigError: the images have neither labels nor attributes.
    """
    training = data.subsets["train"]
    targets = _targets(data, "train")
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Classifier(data.image_shape, _outputs(targets)).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for draw in through(islice(_draws(len(training), seed), steps), "training a classifier", steps):
        batch, target = training.batch(draw), targets[draw.positions].to(device)
        logits = network.logits(data.to_x(batch.image.to(device)))
        loss = (
            F.binary_cross_entropy_with_logits(logits, target.float())
            if target.dtype == torch.bool
            else F.cross_entropy(logits, target)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.cpu().eval()


def _targets(data: ImageDataModule, split: str) -> Int64[Tensor, " N"] | Bool[Tensor, "N A"]:
    """Return the labels of a split's images.

    If all labels of the training images are the same, return the attributes instead.
    """
    subset = data.subsets["train"]
    labels = subset.source.labels[subset.members]
    if labels.min() < labels.max():
        subset = data.subsets[split]
        return subset.source.labels[subset.members]
    try:
        return data.attributes(split).values
    except ConfigError as error:
        raise ConfigError(
            f"data: {type(data).__name__} has no labels to learn features from, nor attributes ({error}); use"
            " features=inception or features=<module>:<name> instead"
        ) from error


def _outputs(targets: Int64[Tensor, " N"] | Bool[Tensor, "N A"]) -> int:
    return targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1


def _draws(size: int, seed: int) -> Iterator[Draw]:
    """Yield shuffled batches, epoch after epoch."""
    batches = TrainBatches(size, BATCH, seed)
    for epoch in count():
        batches.set_epoch(epoch)
        yield from batches


@torch.no_grad()
def accuracy(network: Classifier, data: ImageDataModule) -> tuple[float, str]:
    """Return the share of correct answers on the test images, and a text that says what the share is of.

    It is a share of the images, or of their attributes.
    """
    test, targets = data.subsets["test"], _targets(data, "test")
    of_attributes, right = targets.dtype == torch.bool, 0
    for positions in torch.arange(len(test)).split(1000):
        logits = network.logits(data.to_x(test.batch(Draw(positions, 0, True)).image))
        predicted = logits > 0 if of_attributes else logits.argmax(1)
        right += int((predicted == targets[positions]).sum())
    return right / targets.numel(), "attributes of the test images" if of_attributes else "test images"
