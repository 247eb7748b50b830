"""Training of the classifier whose features serve for comparing images."""

from collections.abc import Iterator
from itertools import count, islice

import torch
import torch.nn.functional as F

from vae.checks import ConfigError
from vae.data import ImageDataModule
from vae.data.batches import Draw, TrainBatches
from vae.metric.feature_network import Classifier

BATCH = 128


def train_classifier(data: ImageDataModule, steps: int, lr: float, seed: int) -> Classifier:
    """A classifier of the labels of the training images, by Adam with a learning rate that falls to zero.

    Raises:
        ConfigError: the images have no labels.
    """
    training = data.subsets["train"]
    labels = training.source.labels[training.members]
    if labels.min() == labels.max():
        raise ConfigError(
            f"data: {type(data).__name__} has no labels to learn features from; use features=inception instead"
        )
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = Classifier(data.image_shape, int(labels.max()) + 1).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for draw in islice(_draws(len(training), seed), steps):
        batch = training.batch(draw)
        loss = F.cross_entropy(network.logits(data.to_x(batch.image.to(device))), batch.label.to(device))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return network.cpu().eval()


def _draws(size: int, seed: int) -> Iterator[Draw]:
    """Shuffled batches, epoch after epoch."""
    batches = TrainBatches(size, BATCH, seed)
    for epoch in count():
        batches.set_epoch(epoch)
        yield from batches


@torch.no_grad()
def accuracy(network: Classifier, data: ImageDataModule) -> float:
    """The share of test images whose label the network tells."""
    test = data.subsets["test"]
    right = 0
    for positions in torch.arange(len(test)).split(1000):
        batch = test.batch(Draw(positions, 0, True))
        right += int((network.logits(data.to_x(batch.image)).argmax(1) == batch.label).sum())
    return right / len(test)
