"""Folder trees and zips of images in any arrangement."""

import os
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from PIL import Image

from pictures_on_disk import encode, pixels, write_folder, write_zip
from vae.checks import ConfigError
from vae.data.decode import FORMATS
from vae.data.image_folder import ImageFolder
from vae.run.directory import RunDirectory

SUFFIX = {".jpg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".JPEG": "JPEG"}


def _files(*names: str) -> dict[str, bytes]:
    """Images whose colour tells them apart: image n is 10 n bright."""
    return {
        name: encode(pixels(0, 30, 40) * 0 + 10 * number, SUFFIX[Path(name).suffix])
        for number, name in enumerate(names)
    }


def _write(root: Path, files: Mapping[str, bytes], zipped: bool) -> Path:
    return write_zip(root / "images.zip", files) if zipped else write_folder(root / "images", files)


def _set_up(path: Path, **options: Any) -> ImageFolder:
    data = ImageFolder(str(path), str(path.parent / "cache"), **{"size": 8, "batch_size": 2} | options)
    data.prepare_data()
    data.setup()
    return data


def _who(data: ImageFolder, split: str) -> list[int]:
    """Which images, by their brightness, are in a split."""
    return sorted((data.images(split, 100)[0].mean((1, 2, 3)) * 25.5).round().int().tolist())


MANY = [f"{n:02d}.png" for n in range(20)]


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("top", ["", "top/"])
def test_splits_by_folder(tmp_path: Path, zipped: bool, top: str) -> None:
    names = [
        "train/cat/a.jpg",
        "train/cat/b.png",
        "train/dog/c.webp",
        "val/cat/d.JPEG",
        "test/dog/e.jpg",
        "test/f.png",
    ]
    data = _set_up(_write(tmp_path, _files(*(top + name for name in names)), zipped))
    assert {split: _who(data, split) for split in ("train", "val", "test")} == {
        "train": [0, 1, 2],
        "val": [3],
        "test": [4, 5],
    }
    assert data.images("train", 3)[1].tolist() == [1, 1, 2]


def test_missing_split_comes_from_train(tmp_path: Path) -> None:
    path = _write(tmp_path, _files(*(f"train/{name}" for name in MANY), "test/x.png"), False)
    data = _set_up(path)
    assert len(data.subsets["test"]) == 1
    assert sorted(_who(data, "train") + _who(data, "val")) == list(range(20))


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_seeded_fractions(tmp_path: Path, zipped: bool) -> None:
    path = _write(tmp_path, _files(*MANY), zipped)
    data = _set_up(path, val_fraction=0.2, test_fraction=0.25)
    splits = {split: _who(data, split) for split in ("train", "val", "test")}
    assert all(splits.values())
    assert sorted(chain.from_iterable(splits.values())) == list(range(20))
    again = _set_up(path, val_fraction=0.2, test_fraction=0.25, seed=7)
    assert {split: _who(again, split) for split in splits} == splits
    other = _set_up(path, val_fraction=0.2, test_fraction=0.25, split_seed=7)
    assert {split: _who(other, split) for split in splits} != splits
    assert len(list((tmp_path / "cache").glob("*.images"))) == 1


def _split_of(names: Sequence[str], **options: Any) -> dict[str, str]:
    data = ImageFolder("photos", "cache", **options)
    drawn = data._draw(names, torch.arange(len(names)), {})
    return {names[row]: split for split, rows in drawn.items() for row in rows.tolist()}


def test_fractions_are_those_asked_for() -> None:
    split = list(_split_of([f"{n}.png" for n in range(20_000)], val_fraction=0.2, test_fraction=0.05).values())
    assert split.count("val") == pytest.approx(4000, abs=4 * 57)
    assert split.count("test") == pytest.approx(1000, abs=4 * 31)


@pytest.mark.parametrize("count", [3, 5, 10, 40])
@pytest.mark.parametrize("seed", range(20))
def test_an_image_that_was_trained_on_stays_in_training(count: int, seed: int) -> None:
    """Images are added one by one, from so few on that a split needs one that its fraction does not give it."""
    names = [f"{n * 7919 % 1000:03d}.png" for n in range(count + 30)]
    before = _split_of(sorted(names[:count]), split_seed=seed)
    for more in range(count + 1, len(names)):
        now = _split_of(sorted(names[:more]), split_seed=seed)
        for name, split in before.items():
            assert (split, now[name]) not in (("train", "val"), ("train", "test"), ("val", "test"))
        before = now


def test_splits_do_not_depend_on_how_a_system_writes_names(tmp_path: Path) -> None:
    composed, decomposed = "\u00e9", "e\u0301"
    one = _split_of([f"{composed}{n}.png" for n in range(30)])
    two = _split_of([f"{decomposed}{n}.png" for n in range(30)])
    assert list(one.values()) == list(two.values())


def test_a_run_keeps_which_images_it_has_and_says_when_they_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, path = RunDirectory(tmp_path / "run"), _write(tmp_path, _files(*MANY), False)

    def noted(*more: str) -> str:
        write_folder(path, {name: encode(pixels(1, 30, 40), "PNG") for name in more})
        data = ImageFolder(str(path), str(tmp_path / "cache"), size=8)
        data.note = run.keep_images
        data.prepare_data()
        data.setup("fit")
        return "".join(line for line in capsys.readouterr().err.splitlines() if "changed" in line)

    assert noted() == ""
    assert noted() == ""
    assert f"{path}: the images have changed since the run run began: " in noted("new.png")
    (path / "new.png").unlink()
    assert noted() == ""
    # Another image under an old name.
    assert "images (" in noted("05.png")


def test_classes_are_folders(tmp_path: Path) -> None:
    data = _set_up(_write(tmp_path, _files(*(f"{'ab'[n % 2]}/{n:02d}.png" for n in range(20))), False))
    images, labels = data.images("train", 100)
    assert torch.equal((images.mean((1, 2, 3)) * 25.5).round().long() % 2, labels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "shape"), [(8, (8, 8)), ([6, 9], (6, 9))])
def test_declared_shape_is_the_shape(tmp_path: Path, channels: int, size: Any, shape: tuple[int, int]) -> None:
    path = _write(tmp_path, _files(*MANY), False)
    shapes = {ImageFolder(str(path), "cache", size=size, channels=channels).image_shape}
    shapes.add(_set_up(path, size=size, channels=channels).images("val", 1)[0].shape[1:])
    assert shapes == {(channels, *shape)}


def test_what_is_passed_over(tmp_path: Path) -> None:
    files = _files(*MANY)
    junk = {".hidden.png": b"", "__MACOSX/._a.png": b"", ".git/a.png": b"", "notes.txt": b"", "Thumbs.db": b""}
    assert len(_set_up(_write(tmp_path, files | junk, False)).listed.files) == 20


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_how_the_folders_were_read_is_always_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], zipped: bool
) -> None:
    names = [f"Training/cat/{name}" for name in MANY] + ["VALID/dog/a.png", "Testing/dog/b.png"]
    other = {"Training/notes.txt": b"", "Training/cat/a.heic": b"", "Training/b.HEIC": b"", ".hidden": b""}
    _set_up(_write(tmp_path, _files(*names) | other, zipped))
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith(
        ": train 20, val 1, test 1; test from Testing/, train from Training/, val from VALID/;"
        " 2 classes (cat, dog); passed over 3 other files (2 .heic, 1 .txt)"
    )


@pytest.mark.parametrize(
    ("names", "how"),
    [
        (MANY, "splits drawn by name; no classes"),
        ([f"a/{name}" for name in MANY] + ["b/x.png"], "splits drawn by name; 2 classes (a, b)"),
        (
            [f"TRAIN/{name}" for name in MANY] + ["validation/x.png"],
            "train from TRAIN/, val from validation/, test drawn from train by name; no classes",
        ),
        (
            [f"train/{n}" for n in MANY] + ["training/x.png", "test/y.png"],
            "train from train/, train from training/",
        ),
    ],
)
def test_what_folders_mean(tmp_path: Path, names: list[str], how: str) -> None:
    assert how in _set_up(_write(tmp_path, _files(*names), False)).summary()


def test_every_format_that_is_read_is_listed(tmp_path: Path) -> None:
    """By its own suffixes, in any case; what Pillow cannot write here is left out."""
    picture = Image.fromarray(pixels(0, 30, 40)).quantize(16)
    files = {f"{n:02d}.png": encode(picture, "PNG") for n in range(9)}
    for file_format in set(FORMATS) & set(Image.SAVE) - {"QOI"}:
        shown = (
            picture.convert("RGB")
            if file_format in ("JPEG", "MPO", "WEBP", "AVIF", "PPM", "JPEG2000")
            else picture
        )
        for suffix in FORMATS[file_format]:
            files[f"{file_format}{suffix.upper()}"] = encode(shown, file_format)
    data = _set_up(_write(tmp_path, files, False))
    assert len(data.listed.files) == len(files) > 20
    assert "passed over" not in data.summary()


def test_background_shows_through_icons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    icon = np.zeros((8, 8, 4), np.uint8)
    icon[2:6, 2:6, 3] = 255
    path = _write(tmp_path, dict.fromkeys(MANY, encode(icon, "PNG")), False)
    assert _set_up(path).images("train", 1)[0][0, :, 0, 0].tolist() == [1, 1, 1]
    assert _set_up(path).images("train", 1)[0][0, :, 4, 4].tolist() == [0, 0, 0]
    assert _set_up(path, background="#ff0000").images("train", 1)[0][0, :, 0, 0].tolist() == [1, 0, 0]
    capsys.readouterr()
    _set_up(path, background="black")
    assert f"{path}: all images are the same, pixel for pixel" in capsys.readouterr().err


def test_links_are_followed_but_not_round_in_circles(tmp_path: Path) -> None:
    elsewhere = write_folder(tmp_path / "elsewhere", _files(*MANY))
    path = tmp_path / "images"
    path.mkdir()
    (path / "linked").symlink_to(elsewhere)
    (path / "linked" / "back").symlink_to(path)
    assert len(_set_up(path).listed.files) == 20


def test_height_and_width_from_the_command_line(tmp_path: Path, composed: Callable[..., DictConfig]) -> None:
    config = composed("data=image_folder", f"data.path={tmp_path}", "data.size=[6,9]")
    assert instantiate(config.data).image_shape == (3, 6, 9)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, r"images: holds no image"),
        ({"notes.txt": b"hello"}, r"images: holds no image"),
        (_files("a.png", "b.png"), r"images: 2 images are too few to split"),
        (_files("val/a.png", "test/b.png"), r"there are images in test, val but none in train"),
        (_files("train/a.png", "b.png"), r"beside train there are images in no folder"),
        (_files("train/a.png", "dev/b.png"), r"beside train there are images in dev"),
        (dict.fromkeys(MANY, b"broken"), r"^20 of the 20 images in .*images cannot be used: 00.png"),
    ],
)
def test_folders_that_will_not_do(tmp_path: Path, files: dict[str, bytes], message: str) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(ConfigError, match=message):
        _set_up(_write(tmp_path, files, False))


def test_zip_without_images_and_file_that_is_no_zip(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"images.zip: holds no image"):
        _set_up(_write(tmp_path, {"a.txt": b""}, True))
    (tmp_path / "images.zip").write_bytes(b"no zip")
    with pytest.raises(ConfigError, match=r"images.zip: not a readable zip"):
        _set_up(tmp_path / "images.zip")


def test_encrypted_entry(tmp_path: Path) -> None:
    """Its flag alone is enough for the entry to be refused as unreadable."""
    path = _write(tmp_path, _files(*MANY), True)
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    content[content.index(b"PK\x03\x04") + 6] |= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"1 of the 20 images.*00.png \(cannot be read from the zip"):
        _set_up(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": None}, r"data.path=null: set it to a folder or a zip"),
        ({"path": "no/where"}, r"data.path=no/where: there is no such folder or zip"),
        ({"background": "nocolour"}, r"data.background=nocolour: must be a colour as HTML writes it"),
        ({"channels": 2}, r"data.channels=2: must be one of 1, 3"),
        ({"size": 0}, r"data.size=0: must be a whole number"),
        ({"size": [8]}, r"data.size=\[8\]: must be a whole number or two"),
        ({"crop": 0}, r"data.crop=0: must be a whole number"),
        (
            {"val_fraction": 0.5, "test_fraction": 0.5},
            r"data.val_fraction=0.5: with data.test_fraction=0.5 nothing",
        ),
        ({"val_fraction": 0}, r"data.val_fraction=0: must be a number above 0"),
    ],
)
def test_impossible_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ImageFolder(**{"path": str(tmp_path), "cache": str(tmp_path / "cache")} | options).setup()


@pytest.mark.skipif(os.sep != "/", reason="names in zips have forward slashes")
def test_nothing_outside_is_read(tmp_path: Path) -> None:
    path = _write(tmp_path, _files(*MANY, "../outside.png"), True)
    with pytest.raises(ConfigError, match=r"refused, because its entry '../outside.png'"):
        _set_up(path)
