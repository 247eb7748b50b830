"""CelebA as it lies on people's disks, whole and in every other state."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from pictures_on_disk import encode, faces, pixels, write_celeba, write_folder, write_lists, write_zip
from vae.checks import ConfigError
from vae.data.celeba import CelebA
from vae.data.decode import Transform

PARTS = (0, 0, 0, 0, 0, 1, 2, 0)


def _celeba(root: Path, **options: Any) -> CelebA:
    options = {"size": 16, "batch_size": 4} | options
    return CelebA(str(root), str(root / "cache"), **options)


def _set_up(root: Path, **options: Any) -> CelebA:
    data = _celeba(root, **options)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture
def expected() -> dict[str, Tensor]:
    """The pixels of each image as 16×16."""
    from vae.data.decode import decode_any

    transform = Transform(3, 16, 16, crop=140)
    made = {}
    for name, content in faces(len(PARTS)).items():
        middle = decode_any(content)[:, 39:179, 19:159]
        made[name] = transform(encode(middle.permute(1, 2, 0).numpy(), "PNG"))
    return made


@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_splits_follow_the_partition(tmp_path: Path, zipped: bool, expected: dict[str, Tensor]) -> None:
    write_celeba(tmp_path, PARTS, zipped)
    data = _set_up(tmp_path)
    for part, split in enumerate(("train", "val", "test")):
        images, labels = data.images(split, 100)
        wanted = [image for image, of in zip(expected.values(), PARTS, strict=True) if of == part]
        assert torch.equal((images * 255).round(), torch.stack(wanted).float())
        assert labels.tolist() == [0] * len(wanted)


def test_one_folder_too_deep(tmp_path: Path) -> None:
    write_lists(tmp_path / "celeba", list(faces(8)), PARTS)
    write_folder(tmp_path / "celeba" / "img_align_celeba" / "img_align_celeba", faces(8))
    assert len(_set_up(tmp_path).subsets["train"]) == 6


def test_half_unpacked_folder_beside_the_zip(tmp_path: Path) -> None:
    write_celeba(tmp_path, PARTS, zipped=True)
    write_folder(tmp_path / "celeba" / "img_align_celeba", faces(3))
    assert len(_set_up(tmp_path).subsets["train"]) == 6


def test_a_complete_folder_is_enough_but_a_broken_zip_beside_half_a_folder_is_named(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path, PARTS)
    (folder / "img_align_celeba.zip").write_bytes(b"half a download")
    assert len(_set_up(tmp_path).subsets["train"]) == 6
    (folder / "img_align_celeba" / "000002.jpg").unlink()
    with pytest.raises(ConfigError, match=r"img_align_celeba.zip: not a readable zip"):
        _set_up(tmp_path)


def test_lists_may_be_subsets(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path, PARTS)
    names = list(faces(8))
    write_lists(folder, [names[n] for n in (1, 4, 6)], [2, 0, 1])
    data = _set_up(tmp_path)
    assert {name: len(subset) for name, subset in data.subsets.items()} == {"train": 1, "val": 1, "test": 1}
    assert data.attributes("train").values.tolist() == [[True, False]]


def test_attributes_belong_to_their_images(tmp_path: Path) -> None:
    """Odd numbers smile, multiples of 3 are young; also when an image between them was left out."""
    folder = write_celeba(tmp_path, PARTS)
    (folder / "img_align_celeba" / "000002.jpg").write_bytes(b"broken")
    data = _set_up(tmp_path, on_bad="skip")
    names, values = data.attributes("train")
    assert names == ["Smiling", "Young"]
    assert values.tolist() == [[True, False], [True, True], [False, False], [True, False], [False, False]]
    assert len(values) == len(data.images("train", 100)[0])
    assert data.attributes("val").values.tolist() == [[False, True]]


@pytest.mark.parametrize("suffix", [".txt", ".csv"])
@pytest.mark.parametrize("between", [",", "\t", " ", ", "])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("start", ["\ufeff", ""], ids=["mark", "plain"])
def test_lists_in_the_forms_that_copies_have(
    tmp_path: Path, suffix: str, between: str, header: bool, start: str
) -> None:
    folder = write_celeba(tmp_path, PARTS)
    rows = [[name, str(part)] for name, part in zip(faces(8), PARTS, strict=True)]
    attributes = [[name, "1" if n % 2 else "-1", "1"] for n, (name, _) in enumerate(rows)]
    for stem, lines in (
        ("list_eval_partition", [*[["image_id", "partition"]] * header, *rows]),
        ("list_attr_celeba", [["image_id", "Smiling", "Young"][not header :], *attributes]),
    ):
        (folder / f"{stem}.txt").unlink()
        text = start + "\r\n".join(between.join(line) for line in lines)
        (folder / f"{stem}{suffix}").write_bytes(text.encode())
    data = _set_up(tmp_path)
    assert {name: len(subset) for name, subset in data.subsets.items()} == {"train": 6, "val": 1, "test": 1}
    names, values = data.attributes("train")
    assert names == ["Smiling", "Young"]
    assert values.tolist() == [[n % 2 == 1, True] for n, part in enumerate(PARTS) if part == 0]


@pytest.mark.parametrize("listed", [".jpg", ".png"])
@pytest.mark.parametrize("there", [".jpg", ".png"])
@pytest.mark.parametrize("where", ["img_align_celeba", "img_align_celeba_png"])
@pytest.mark.parametrize("zipped", [False, True], ids=["folder", "zip"])
def test_images_of_the_other_suffix(tmp_path: Path, listed: str, there: str, where: str, zipped: bool) -> None:
    folder = write_celeba(tmp_path, PARTS)
    shutil.rmtree(folder / "img_align_celeba")
    for name in ("list_eval_partition.txt", "list_attr_celeba.txt"):
        (folder / name).write_text((folder / name).read_text().replace(".jpg", listed))
    files = {
        f"{where}/{name.replace('.jpg', there)}": encode(
            pixels(int(name[:6])), "PNG" if there == ".png" else "JPEG"
        )
        for name in faces(8)
    }
    write_zip(folder / f"{where}.zip", files) if zipped else write_folder(folder, files)
    data = _set_up(tmp_path)
    assert len(data.subsets["train"]) == 6
    assert data.attributes("val").values.tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000009.jpg x", r"line 9: '000009.jpg x' is no name with 0, 1 or 2"),
        ("000009.jpg 3", r"line 9: '000009.jpg 3' is no name with 0, 1 or 2"),
        ("000009.jpg", r"line 9: '000009.jpg' is no name with 0, 1 or 2"),
        ("../../x.jpg 0", r"line 9: '../../x.jpg' is not the plain name"),
        ("/x.jpg 0", r"line 9: '/x.jpg' is not the plain name"),
        ("a/x.jpg 0", r"line 9: 'a/x.jpg' is not the plain name"),
        (".. 0", r"line 9: '..' is not the plain name"),
        ("..\\x.jpg 0", r"is not the plain name"),
        ("000001.jpg 1", r"line 9: 000001.jpg is listed twice"),
        ("000009.jpg 0", r"1 of the 9 images in .*img_align_celeba cannot be used: 000009.jpg \(missing\)"),
    ],
)
def test_bad_lines_of_the_partition(tmp_path: Path, line: str, message: str) -> None:
    folder = write_celeba(tmp_path, PARTS)
    with (folder / "list_eval_partition.txt").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(ConfigError, match=message):
        _set_up(tmp_path)
    assert not list(tmp_path.glob("cache/*.images*"))


def test_split_without_images(tmp_path: Path) -> None:
    write_celeba(tmp_path, (0, 0, 1))
    with pytest.raises(ConfigError, match=r"list_eval_partition.txt: lists no image for test"):
        _set_up(tmp_path)


def test_split_of_which_all_are_bad(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path, PARTS)
    (folder / "img_align_celeba" / "000007.jpg").write_bytes(b"broken")
    with pytest.raises(ConfigError, match=r"no usable image for test"):
        _set_up(tmp_path, on_bad="skip")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, r"list_attr_celeba.txt: cannot be read"),
        ("1\nSmiling Young\n000001.jpg 1 1\n000002.jpg 1\n", r"line 4: expected a name and 2 values"),
        ("1\nSmiling Young\n000001.jpg 1 x\n", r"line 3: expected a name and 2 values"),
        ("000001.jpg 1 -1\n", r"expected the names of the attributes in .* found '000001.jpg 1 -1'"),
        ("8\n", r"expected the names of the attributes in .* found nothing"),
        ("1\nSmiling Young\n000001.jpg 1 1\n", r"lacks 7 of the images, such as 000002.jpg"),
    ],
)
def test_bad_attribute_lists(tmp_path: Path, lines: str | None, message: str) -> None:
    path = write_celeba(tmp_path, PARTS) / "list_attr_celeba.txt"
    path.unlink() if lines is None else path.write_text(lines)
    data = _set_up(tmp_path)
    with pytest.raises(ConfigError, match=message):
        data.attributes("train")


def test_wrong_size(tmp_path: Path) -> None:
    folder = write_celeba(tmp_path, PARTS)
    (folder / "img_align_celeba" / "000003.jpg").write_bytes(encode(pixels(3, 300, 300)))
    with pytest.raises(ConfigError, match=r"000003.jpg \(300×300 pixels instead of 178×218\)"):
        _set_up(tmp_path)


@pytest.mark.parametrize("prepare", [True, False])
def test_nothing_there_and_no_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prepare: bool) -> None:
    def quota(*_arguments: object, **_options: object) -> None:
        raise RuntimeError("The daily quota of the file is exceeded\nand it can't be downloaded.")

    monkeypatch.setattr("torchvision.datasets.CelebA", quota)
    data = _celeba(tmp_path)
    with pytest.raises(ConfigError) as raised:
        data.prepare_data() if prepare else data.setup()
    for part in (
        "img_align_celeba.zip",
        "list_eval_partition.txt",
        "list_attr_celeba.txt",
        str(tmp_path / "celeba"),
    ):
        assert part in str(raised.value)
    assert ("quota of the file is exceeded)" in str(raised.value)) == prepare


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "data.size=0: must be a whole number of at least 1"),
        ({"crop": 179}, "data.crop=179: must be at most 178"),
        ({"on_bad": "ignore"}, "data.on_bad=ignore: must be one of error, skip"),
    ],
)
def test_impossible_options(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _celeba(tmp_path, **options)


def test_batches_shuffle_all_images_once(tmp_path: Path) -> None:
    write_celeba(tmp_path, (0,) * 16 + (1, 2))
    data = _set_up(tmp_path)
    seen = torch.cat([batch.image for batch in data.train_dataloader()]).flatten(1)
    stored = data.images("train", 16)[0].mul(255).round().to(torch.uint8).flatten(1)
    assert len({tuple(row.tolist()) for row in seen}) == 16
    assert {tuple(row.tolist()) for row in seen} == {tuple(row.tolist()) for row in stored}
    assert not torch.equal(seen, stored)


def test_train_mean_is_the_mean(tmp_path: Path) -> None:
    write_celeba(tmp_path, PARTS)
    data = _set_up(tmp_path)
    torch.testing.assert_close(data.train_mean(), data.images("train", 100)[0].mean(0), atol=1e-6, rtol=0)


@pytest.mark.slow
def test_real_faces(composed: Callable[..., DictConfig], real_data: Path, tmp_path: Path) -> None:
    config = composed("data=celeba", f"paths.data='{real_data}'", f"paths.cache={tmp_path}")
    data = instantiate(config.data)
    if not (data.folder / "list_eval_partition.txt").is_file():
        pytest.skip("no celeba in DATA_DIR")
    data.prepare_data()
    data.setup()
    assert data.train_dataloader().dataset[0].image.shape == (1, 3, 64, 64)
    # Skin is redder than it is blue, and eyes and hair are darker than the middle of the face.
    mean = data.train_mean()
    red, _, blue = mean[:, 24:44, 24:40].mean((1, 2))
    assert red > blue + 0.1
    assert mean[:, 34:40, 28:36].mean() > mean[:, 26:28, 18:26].mean()
    names, values = data.attributes("train")
    assert len(names) == 40
    assert values.shape == (len(data.subsets["train"]), 40)
    # Of the release 48 % smile, and 42 % are men.
    assert 0.4 < values[:, names.index("Smiling")].float().mean() < 0.56
