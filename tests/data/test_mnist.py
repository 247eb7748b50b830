"""MNIST's files: read where they are, refused in one line where they are missing or damaged."""

import gzip
import os
from pathlib import Path

import pytest
import torch

from vae.checks import ConfigError
from vae.data.mnist import MNIST

PARTS = {"train": 60_000, "t10k": 10_000}


def _write(folder: Path, pixels: int = 28 * 28) -> Path:
    """Files of the right format and sizes, in which image i is all i mod 256."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part, count in PARTS.items():
        values = (torch.arange(count) % 256).to(torch.uint8)
        images = values[:, None].expand(count, 28 * 28).contiguous().numpy().tobytes()
        sizes = count.to_bytes(4) + (28).to_bytes(4) + (28).to_bytes(4)
        (raw / f"{part}-images-idx3-ubyte").write_bytes(b"\0\0\x08\x03" + sizes + images)
        labels = (values % 10).numpy().tobytes()
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + count.to_bytes(4) + labels)
    return raw


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mnist")
    _write(path)
    return path


def test_the_official_test_set_stays_the_test_set(folder: Path) -> None:
    data = MNIST(str(folder))
    data.prepare_data()
    data.setup()
    assert {name: len(s) for name, s in data.subsets.items()} == {"train": 55_000, "val": 5_000, "test": 10_000}
    test = data.subsets["test"].source
    assert torch.equal(test.labels, torch.arange(10_000) % 256 % 10)
    assert torch.equal(test.images[:, 0, 0, 0].long(), torch.arange(10_000) % 256)


def test_padding_to_32_leaves_the_image_in_the_middle(folder: Path) -> None:
    data = MNIST(str(folder), size=32)
    data.setup()
    image = data.subsets["test"].source.images[255]
    assert image.shape == data.image_shape == (1, 32, 32)
    assert image[0, 2:30, 2:30].eq(255).all()
    assert image.long().sum() == 255 * 28 * 28


def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every download fail as it does without a network."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nTried …, got:\nno network")

    monkeypatch.setattr("torchvision.datasets.MNIST.download", refuse)


def test_missing_files_are_named_with_where_to_put_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _no_network(monkeypatch)
    with pytest.raises(ConfigError) as caught:
        MNIST(str(tmp_path)).prepare_data()
    line = str(caught.value)
    assert "\n" not in line
    assert f"paths.data={tmp_path}" in line
    assert "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte" in line
    assert f"{tmp_path}/MNIST/raw/" in line


@pytest.mark.parametrize("kept", [0, 10, 1000, 60_000 * 784])
def test_a_truncated_file_is_named(tmp_path: Path, kept: int) -> None:
    raw = _write(tmp_path)
    file = raw / "train-images-idx3-ubyte"
    os.truncate(file, kept)
    with pytest.raises(ConfigError, match=r"raw/train-images-idx3-ubyte: .*expected .*60000×28×28") as caught:
        MNIST(str(tmp_path)).sources()
    assert "\n" not in str(caught.value)


def test_files_of_another_size_are_refused(tmp_path: Path) -> None:
    raw = _write(tmp_path)
    (raw / "train-labels-idx1-ubyte").write_bytes(b"\0\0\x08\x01" + (5).to_bytes(4) + bytes(5))
    with pytest.raises(
        ConfigError, match=r"train-labels-idx1-ubyte: expected .*60000 bytes.*found one of 13 bytes"
    ):
        MNIST(str(tmp_path)).sources()


@pytest.mark.parametrize("dotted", [False, True])
def test_files_that_were_packed_again_are_read(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, dotted: bool
) -> None:
    """Without a network, into a folder that need not be writable, and whatever their checksums."""
    _no_network(monkeypatch)
    raw = _write(tmp_path)
    for file in list(raw.iterdir()):
        name = file.name.replace("-idx", ".idx") if dotted else file.name
        (raw / f"{name}.gz").write_bytes(gzip.compress(file.read_bytes(), 1, mtime=7))
        file.unlink()
    packed, plain = MNIST(str(tmp_path)), MNIST(str(folder))
    packed.prepare_data()
    for one, other in zip(packed.sources().values(), plain.sources().values(), strict=True):
        assert torch.equal(one.images, other.images)
        assert torch.equal(one.labels, other.labels)


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"not MNIST", mtime=0), gzip.compress(bytes(99), mtime=0)[:-12]]
)
def test_packed_files_that_are_something_else_are_named(tmp_path: Path, content: bytes) -> None:
    raw = _write(tmp_path)
    (raw / "train-images-idx3-ubyte").unlink()
    (raw / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(ConfigError, match=r"train-images-idx3-ubyte.gz: (a truncated or damaged file|expected)"):
        MNIST(str(tmp_path)).sources()


@pytest.mark.parametrize("options", [{"size": 30}, {"name": "CIFAR"}])
def test_bad_options_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"data\.(size|name)="):
        MNIST("data", **options)  # type: ignore[arg-type]
