"""The LightningDataModule that all image sets share: splits, batches, uint8 → x, binarisation."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64, Shaped, UInt8
from lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from vae.checks import ConfigError, check_choice, check_int
from vae.data.batches import Draw, EvalBatches, Groups, TrainBatches
from vae.data.decode import WHITE
from vae.random import generator, of_whole_batch, set_draws

Values = Literal["bytes", "binary"]


class ImageSet(NamedTuple):
    """Images in memory (or in a memory map), and a class label for each (zeros where there are none).

    `members` are the rows that belong to the split, None for all: splits may share one tensor of images.
    """

    images: UInt8[Tensor, "N C H W"]
    labels: Int64[Tensor, " N"]
    members: Int64[Tensor, " M"] | None = None


class Attributes(NamedTuple):
    """What is stated of each image: whether it has each of the named attributes."""

    names: list[str]
    values: Bool[Tensor, "N A"]


class Batch(NamedTuple):
    """What a step receives. `image` is uint8 until it is on the device, then x as a float in [0, 1].

    `first` is the position of the first image in its split: a batch of an evaluation holds the images from there.
    One of training holds the share that `rank` has of a batch that is shared out over `ranks`.
    """

    image: Shaped[Tensor, "B C H W"]
    label: Int64[Tensor, " B"]
    key: int
    counts: bool
    first: int = 0
    rank: int = 0
    ranks: int = 1


class BatchGroup(NamedTuple):
    """The batches of several steps, fetched and sent to the device together. `image` is uint8."""

    image: UInt8[Tensor, "S*B C H W"]
    label: Int64[Tensor, " S*B"]
    keys: tuple[int, ...]

    def batches(self) -> Iterator[Batch]:
        """Yield the images of each step as a `Batch` that is still to be made ready."""
        steps = len(self.keys)
        for image, label, key in zip(self.image.chunk(steps), self.label.chunk(steps), self.keys, strict=True):
            yield Batch(image, label, key, True)


class ImageSubset(Dataset[Batch]):
    """Some images of a set. It is asked for whole batches only, so that no image is fetched by itself."""

    def __init__(self, source: ImageSet, members: Int64[Tensor, " M"]):
        self.source, self.members = source, members

    def __len__(self) -> int:
        return len(self.members)

    def __getitem__(self, position: int) -> Batch:
        return self.batch(Draw(torch.tensor([position]), 0, True))

    def __getitems__(self, asked: Draw | list[Draw]) -> Batch | BatchGroup:
        """Return one batch, or those of several training steps."""
        if isinstance(asked, Draw):
            return self.batch(asked)
        positions = torch.cat([draw.positions for draw in asked])
        return BatchGroup(*self._rows(positions), tuple(draw.key for draw in asked))

    def batch(self, draw: Draw) -> Batch:
        """Return the images of one batch, as bytes."""
        first = int(draw.positions[0])
        return Batch(*self._rows(draw.positions), draw.key, draw.counts, first, draw.rank, draw.ranks)

    def _rows(self, positions: Int64[Tensor, " B"]) -> tuple[UInt8[Tensor, "B C H W"], Int64[Tensor, " B"]]:
        rows = self.members[positions].to(self.source.images.device)
        # Copies whole images, where indexing with a tensor goes pixel by pixel: 12 times as fast at 64×64×3.
        return self.source.images.index_select(0, rows), self.source.labels.index_select(0, rows)


def _as_it_is(batch: Any) -> Any:
    """In place of collating: the data set already returns whole batches."""
    return batch


class ImageDataModule(LightningDataModule, ABC):
    """What every image set shares. A set says its `image_shape` and gives its `sources`.

    Args:
        batch_size: images per optimiser step, over all devices together.
        eval_batch_size: images per step of validation and test.
        val_size: images taken out of the training set for validation where the source has no such split.
        binarize: `none`; `threshold` (x > 0.5); `dynamic` (x ~ Bernoulli(grey value), drawn anew at each
            use, as in Salakhutdinov & Murray 2008; in evaluation drawn from a fixed seed).
        seed: of the order and noise of the training batches.
        split_seed: of the validation split; apart from `seed`, so that runs over seeds share their splits.
        train_images: how many of the training images are used, at most, drawn from `split_seed`; None for all.
        device: `auto` to keep the images on the GPU that trains where they take up at most half of its free
            memory; `gpu` to train only with them there, whatever they take up; `cpu` to send each batch there.
    """

    def __init__(
        self,
        batch_size: int = 128,
        eval_batch_size: int = 512,
        val_size: int = 5000,
        binarize: str = "none",
        seed: int = 0,
        split_seed: int = 0,
        train_images: int | None = None,
        device: str = "auto",
    ):
        super().__init__()
        self.batch_size = check_int("data.batch_size", batch_size)
        self.eval_batch_size = check_int("data.eval_batch_size", eval_batch_size)
        self.val_size = check_int("data.val_size", val_size)
        self.binarize = check_choice("data.binarize", binarize, ("none", "threshold", "dynamic"))
        self.seed = check_int("seed", seed, minimum=0)
        self.split_seed = check_int("data.split_seed", split_seed, minimum=0)
        self.train_images = None if train_images is None else check_int("data.train_images", train_images)
        self.device = check_choice("data.device", device, ("auto", "cpu", "gpu"))
        self.subsets: dict[str, ImageSubset] = {}
        # What was read from files; the jobs of a sweep share it, see memory.py.
        self.memory: dict[str, Any] = {}
        self._on_device: dict[int, Tensor] = {}
        self.tested_split = "test"
        # Called with the place of the images, and what tells those of each split from others.
        self.note: Callable[[str, dict[str, str]], None] | None = None
        self.steps_at_once = 1

    background: tuple[int, int, int] = WHITE
    """The colour behind what is transparent in an image that is handed in."""

    @property
    @abstractmethod
    def image_shape(self) -> tuple[int, int, int]:
        """(C, H, W), known before any file is read."""

    @property
    def batch_pixels(self) -> int:
        """Of one step's images, over all channels and devices."""
        return self.batch_size * prod(self.image_shape)

    @abstractmethod
    def sources(self) -> Mapping[str, ImageSet]:
        """Return the images as `train`, `test` and, where the set has it, `val`."""

    def fetch(self) -> None:
        """Download or decode what `sources` will read, where it is not there yet."""

    def prepare_data(self) -> None:
        """Fetch what has not been read yet (called by Lightning on one process per machine)."""
        if "sources" not in self.memory:
            self.fetch()

    @property
    def values(self) -> Values:
        """Whether x takes the 256 values of a byte or only 0 and 1."""
        return "bytes" if self.binarize == "none" else "binary"

    def setup(self, stage: str | None = None) -> None:
        """Read the images (once) and split them."""
        if self.subsets:
            return
        if "sources" not in self.memory:
            self.memory["sources"] = self.sources()
        sources = dict(self.memory["sources"])
        members = {
            name: torch.arange(len(source.images)) if source.members is None else source.members
            for name, source in sources.items()
        }
        if "val" not in sources:
            sources["val"] = sources["train"]
            members["train"], members["val"] = self._take_out(members["train"], self.val_size)
        if self.train_images is not None and self.train_images < len(members["train"]):
            members["train"] = self._take_out(members["train"], self.train_images)[1]
        self.subsets = {name: ImageSubset(sources[name], members[name]) for name in ("train", "val", "test")}
        if self.note is not None and (self.trainer is None or self.trainer.is_global_zero):
            self.note(self.place, self.digests())

    place: str = ""
    """The user's folder or zip of the images, if there is one."""

    def digests(self) -> dict[str, str]:
        """Return, for each split, the number of its images and a digest of their bytes in their order."""
        found = {}
        for split, subset in self.subsets.items():
            digest = hashlib.blake2b(digest_size=6)
            for rows in subset.members.split(4096):
                digest.update(subset.source.images.index_select(0, rows).numpy().tobytes())
            found[split] = f"{len(subset):,} images ({digest.hexdigest()})"
        return found

    def _take_out(
        self, members: Int64[Tensor, " M"], size: int
    ) -> tuple[Int64[Tensor, " R"], Int64[Tensor, " S"]]:
        """Split off `size` members, drawn from `split_seed`: the rest, and those."""
        if size >= len(members):
            raise ConfigError(f"data.val_size={size}: must be below the {len(members)} training images")
        order = torch.randperm(len(members), generator=generator("split", self.split_seed))
        return members[order[size:].sort()[0]], members[order[:size].sort()[0]]

    def train_dataloader(self) -> DataLoader[Batch]:
        if self.device == "gpu":
            self._check_gpu(self.subsets["train"].source.images)
        return self._loader("train", TrainBatches, self.batch_size)

    def val_dataloader(self) -> DataLoader[Batch]:
        return self._loader("val", EvalBatches, self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[Batch]:
        return self._loader(self.tested_split, EvalBatches, self.eval_batch_size)

    def _loader(
        self, split: str, batches: type[TrainBatches] | type[EvalBatches], batch_size: int
    ) -> DataLoader[Batch]:
        subset = self._where_it_is_used(self.subsets[split])
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        # DataLoader's types expect lists of indices here; it hands on whatever the sampler yields.
        draws: Any = batches(len(subset), batch_size, self.seed, rank, world_size)
        if split == "train" and self.steps_at_once > 1:
            draws = Groups(draws, self.steps_at_once)
        pin = torch.cuda.is_available() and subset.source.images.device.type == "cpu"
        return DataLoader(subset, batch_sampler=draws, collate_fn=_as_it_is, pin_memory=pin)

    def _where_it_is_used(self, subset: ImageSubset) -> ImageSubset:
        """Return the subset with its images on the training device if they fit there, and else as it is."""
        images, labels, _ = subset.source
        device = self._training_device()
        key, share = images.data_ptr(), 1 if self.device == "gpu" else 2
        if key not in self._on_device and device.type != "cpu" and images.nbytes <= free_bytes(device) / share:
            self._on_device[key] = images.to(device)
        if key not in self._on_device:
            return subset
        return ImageSubset(ImageSet(self._on_device[key], labels.to(device)), subset.members)

    def _check_gpu(self, images: Tensor) -> None:
        """Refuse to train with images that are not on a GPU."""
        device = self._training_device()
        if device.type == "cpu":
            raise ConfigError("data.device=gpu: must be auto or cpu where training runs on the CPU")
        if images.data_ptr() not in self._on_device and images.nbytes > (free := free_bytes(device)):
            raise ConfigError(
                f"data.device=gpu: must be auto or cpu, as the images take up {images.nbytes / 1e9:.2f} GB,"
                f" of {free / 1e9:.2f} GB that are free on {device}"
            )

    def _training_device(self) -> torch.device:
        if self.device == "cpu" or self.trainer is None:
            return torch.device("cpu")
        return self.trainer.strategy.root_device

    def on_after_batch_transfer(self, batch: Batch | BatchGroup, dataloader_idx: int) -> Batch | BatchGroup:
        """Make a batch ready on the device; those of a group are made ready one by one, as their draws must be."""
        return self.ready(batch) if isinstance(batch, Batch) else batch

    def ready(self, batch: Batch) -> Batch:
        """Set the batch's draws, and turn its bytes into x."""
        set_draws(batch.key, batch.image.device)
        return batch._replace(image=of_whole_batch(self.to_x, batch.image, batch.rank, batch.ranks))

    def to_x(self, image: UInt8[Tensor, "*B C H W"]) -> Float[Tensor, "*B C H W"]:
        """Bytes to floats in [0, 1], binarised if so configured (drawing from the default generator)."""
        x = image.float().div_(255)
        if self.binarize == "threshold":
            return (x > 0.5).float()
        return torch.bernoulli(x) if self.binarize == "dynamic" else x

    def images(self, split: str, count: int) -> tuple[Float[Tensor, "N C H W"], Int64[Tensor, " N"]]:
        """Return the first `count` images of a split as x, with their labels, the same at every call."""
        source, rows = self.subsets[split].source, self.subsets[split].members[:count]
        return torch.cat(list(self.batches(split, count, count))), source.labels[rows]

    def batches(self, split: str, count: int, size: int = 512) -> Iterator[Float[Tensor, "B C H W"]]:
        """Yield the first `count` images of a split as x, `size` at a time."""
        subset = self.subsets[split]
        with torch.random.fork_rng(devices=[]):
            set_draws(self.split_seed, torch.device("cpu"))
            for rows in subset.members[:count].split(size):
                yield self.to_x(subset.source.images.index_select(0, rows))

    def attributes(self, split: str) -> Attributes:
        """Return the attributes of each image of a split, in the order of `images`.

        Raises:
            ConfigError: this set has none.
        """
        raise ConfigError(f"attribute: {type(self).__name__} has no attributes; data=celeba has")

    def train_mean(self) -> Float[Tensor, "C H W"]:
        """Return the mean of x over the training images, in chunks, so that memory stays bounded."""
        subset = self.subsets["train"]
        total = torch.zeros(self.image_shape, dtype=torch.float64)
        # Of 256 images the sum of bytes is exact in float32, and fits into the processor's caches.
        for rows in subset.members.split(256):
            image = subset.source.images.index_select(0, rows)
            total += (self.to_x(image) if self.binarize == "threshold" else image.float()).sum(0)
        scale = 1 if self.binarize == "threshold" else 255
        return (total / (scale * len(subset))).float()


def free_bytes(device: torch.device) -> int:
    """Return the memory that is free on a GPU; 0 on devices of which torch does not tell."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
