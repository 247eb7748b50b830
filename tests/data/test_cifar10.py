import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from vae.checks import ConfigError
from vae.data.cifar10 import CIFAR10


def _write(root: Path) -> np.ndarray:
    """The official files with 2 images in each; the pixels of the training images."""
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (12, 3072), dtype=np.uint8)
    for n, name in enumerate([*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]):
        (folder / name).write_bytes(pickle.dumps({"data": pixels[2 * n : 2 * n + 2], "labels": [n, n + 1]}))
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [str(n) for n in range(10)]}))
    return pixels


def test_pixels_and_labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = _write(tmp_path)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    data = CIFAR10(str(tmp_path), val_size=3)
    data.prepare_data()
    sources = data.sources()
    assert torch.equal(sources["train"].images, torch.from_numpy(pixels[:10]).view(10, 3, 32, 32))
    assert torch.equal(sources["test"].images, torch.from_numpy(pixels[10:]).view(2, 3, 32, 32))
    assert sources["train"].labels.tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
    data.setup()
    assert {name: len(subset) for name, subset in data.subsets.items()} == {"train": 7, "val": 3, "test": 2}


def test_altered_files_are_not_read(tmp_path: Path) -> None:
    """torchvision compares checksums before it unpickles anything."""
    _write(tmp_path)
    with pytest.raises(ConfigError, match=r"paths.data=.*unpack cifar-10-python.tar.gz"):
        CIFAR10(str(tmp_path)).setup()


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network\nat all")

    monkeypatch.setattr("torchvision.datasets.cifar.download_and_extract_archive", refuse)
    with pytest.raises(ConfigError, match=r"the download failed \(no network\); unpack cifar-10-python.tar.gz"):
        CIFAR10(str(tmp_path)).prepare_data()
