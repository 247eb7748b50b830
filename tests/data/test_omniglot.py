from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures_on_disk import encode, write_folder
from vae.checks import ConfigError
from vae.data.omniglot import Omniglot


def _drawing(stroke: int) -> bytes:
    """A black bar, `stroke` pixels wide, on white, with one bit per pixel as in the release."""
    image = np.full((105, 105), 255, np.uint8)
    image[:, :stroke] = 0
    return encode(Image.fromarray(image).convert("1"), "PNG")


def _write(root: Path) -> None:
    files = {
        f"images_background/Greek/character0{c}/0{d}.png": _drawing(15 * c) for c in (1, 2) for d in (1, 2, 3)
    }
    files |= {f"images_evaluation/Angelic/character0{c}/0{d}.png": _drawing(60) for c in (1, 2) for d in (1, 2)}
    write_folder(root / "omniglot-py", files)


def test_splits_labels_and_ink(tmp_path: Path) -> None:
    _write(tmp_path)
    data = Omniglot(str(tmp_path), str(tmp_path / "cache"), val_size=2)
    data.prepare_data()
    sources = data.sources()
    train, test = (sources[name] for name in ("train", "test"))
    assert train.labels[train.members].tolist() == [0, 0, 0, 1, 1, 1]
    assert test.labels[test.members].tolist() == [2, 2, 3, 3]
    images = train.images[train.members].float() / 255
    assert images.shape == (6, 1, 28, 28)
    for row, stroke in enumerate((15, 15, 15, 30, 30, 30)):
        assert images[row].mean() == pytest.approx(stroke / 105, abs=0.005)
    data.setup()
    assert {name: len(subset) for name, subset in data.subsets.items()} == {"train": 4, "val": 2, "test": 4}


def test_no_files_and_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.Omniglot", refuse)
    data = Omniglot(str(tmp_path), str(tmp_path / "cache"))
    with pytest.raises(ConfigError, match=r"\(no network\); unpack images_background.zip and images_eval"):
        data.prepare_data()
    with pytest.raises(ConfigError, match=r"images_background: holds no image; unpack"):
        data.setup()
