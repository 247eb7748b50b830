"""Sheets: where each image stands, what is written beside it, and that a PNG gives both back."""

import io
from pathlib import Path
from typing import IO

import numpy as np
import pytest
import torch
from PIL import Image

from linear_gaussian import linear_model
from vae.picture.figure import draw_sheet, frame, read_sheet, save_animation, save_figure, save_latent_scatter
from vae.picture.sheet import (
    GAP,
    PAD,
    Sheet,
    column_starts,
    latent_name,
    manifold_sheet,
    reconstructions_sheet,
    traversal_sheet,
)


def constant(*values: float, side: int = 8) -> torch.Tensor:
    """An image of one grey for each value."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 1, side, side)


def test_images_stand_row_by_row_and_the_last_row_may_be_short() -> None:
    pixels = Sheet(constant(0, 0.2, 0.4), 2).pixels()
    assert pixels.shape == (PAD + 2 * (64 + PAD), PAD + 2 * (64 + PAD))
    centres = [PAD + 32, 2 * PAD + 96]
    assert pixels[np.ix_(centres, centres)].tolist() == [[0, 51], [102, 255]]
    assert (pixels[:PAD] == 255).all()


def test_small_images_are_enlarged_by_a_whole_factor_and_large_ones_left() -> None:
    assert Sheet(torch.zeros(1, 1, 8, 8), 8).tile == (64, 64)
    assert Sheet(torch.zeros(1, 1, 28, 28), 8).tile == (56, 56)
    assert Sheet(torch.zeros(1, 3, 218, 178), 8).tile == (218, 178)
    # Many columns would make a page-wide picture of thousands of pixels.
    assert Sheet(torch.zeros(1, 1, 28, 28), 20).tile == (28, 28)


def test_each_image_stands_beside_its_reconstruction_and_apart_from_the_next() -> None:
    x, restored = constant(0.1, 0.3, 0.5), constant(0.2, 0.4, 0.6)
    sheet = reconstructions_sheet(x, restored)
    assert sheet.images[:, 0, 0, 0].tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert (sheet.columns, sheet.group) == (6, 2)
    starts = column_starts(6, 64, 2)
    assert np.diff(starts).tolist() == [64 + PAD, 64 + PAD + GAP] * 2 + [64 + PAD]
    seen = reconstructions_sheet(x, restored, constant(0.9, 0.9, 0.9))
    assert seen.images[:3, 0, 0, 0].tolist() == pytest.approx([0.1, 0.9, 0.2])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("named", [False, True])
def test_a_png_gives_back_its_images_and_labels(tmp_path: Path, channels: int, named: bool) -> None:
    images = (torch.randint(0, 256, (11, channels, 9, 7)) / 255).float()
    labels = {"row_names": ["z₁  1.25", "z₂", ""], "column_names": list("abcd"), "x": "z₁", "y": "rate"}
    sheet = Sheet(images, 4, "Ünïcode <title> " * 9, group=2, **(labels if named else {}))
    save_figure(tmp_path / "a" / "b.png", sheet)
    pixels, said = read_sheet(tmp_path / "a" / "b.png")
    assert said["title"] == sheet.title
    assert said["row_names"] == (labels["row_names"] if named else [])
    expected = sheet.pixels()
    expected = expected if channels == 3 else np.repeat(expected[..., None], 3, -1)
    shown = pixels[..., 3] > 0
    assert pixels.shape[:2] == expected.shape[:2]
    np.testing.assert_array_equal(pixels[shown][:, :3], expected[shown])
    # Between the images there is nothing, so that a page may have any colour.
    assert not shown[:PAD].any()
    assert not shown[:, PAD + 2 * (sheet.tile[1] + PAD) : PAD + 2 * (sheet.tile[1] + PAD) + GAP].any()


def test_any_other_png_is_a_picture_without_labels(tmp_path: Path) -> None:
    Image.new("L", (5, 3), 7).save(tmp_path / "plain.png")
    pixels, said = read_sheet(tmp_path / "plain.png")
    assert pixels.shape == (3, 5, 4)
    assert said == {"title": "plain"}


@pytest.mark.parametrize(
    ("n", "columns", "side"), [(64, 8, 8), (110, 11, 28), (1, 1, 64), (40, 2, 28), (33, 33, 8)]
)
def test_figures_fit_a_page(tmp_path: Path, n: int, columns: int, side: int) -> None:
    names = [latent_name(row) for row in range(-(-n // columns))]
    sheet = Sheet(torch.rand(n, 1, side, side), columns, "A title " * 20, names, y="latent")
    save_figure(tmp_path / "f.pdf", sheet)
    box = (tmp_path / "f.pdf").read_bytes().split(b"/MediaBox [")[1].split(b"]")[0]
    width, height = (float(number) / 72 for number in box.split()[2:])
    assert width <= 6.6
    assert height <= 9.1


def test_dots_are_those_that_matplotlib_would_draw() -> None:
    sheet = Sheet(torch.rand(12, 3, 5, 7), 4, "A title, ½", [latent_name(row) for row in range(3)], y="latent")
    figure, _ = draw_sheet(sheet)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    assert np.array_equal(np.asarray(Image.open(file).convert("RGB")), frame(sheet))


def test_frames_of_one_layout_have_one_size() -> None:
    sizes = {frame(Sheet(torch.rand(4, 1, 8, 8), 2, f"after epoch {epoch}")).shape for epoch in (0, 10, 1000)}
    assert len(sizes) == 1


def test_latents_have_one_numbering() -> None:
    assert [latent_name(d) for d in (0, 8, 9, 127)] == ["z₁", "z₉", "z₁₀", "z₁₂₈"]


def test_a_traversal_shows_the_ten_latents_of_the_largest_rates() -> None:
    model, rates = linear_model(12), torch.arange(12.0)
    sheet = traversal_sheet(model, torch.zeros(12), rates, steps=5)
    assert [name.split()[0] for name in sheet.row_names] == [latent_name(d) for d in range(11, 1, -1)]
    assert list(sheet.column_names) == ["−3", "−1.5", "0", "1.5", "3"]
    z = torch.zeros(12)
    z[11] = -3
    torch.testing.assert_close(sheet.images[0], model.decode(z[None]).mean[0])


@pytest.mark.parametrize("suffix", [".png", ".gif"])
def test_a_picture_that_is_not_finished_leaves_the_one_before(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a page that is written of an interrupted run would meet half of one."""
    path, sheet = tmp_path / f"a{suffix}", Sheet(constant(0, 0.5), 2)

    def save() -> None:
        if suffix == ".gif":
            save_animation(path, [sheet.pixels(), 255 - sheet.pixels()], 0.1)
        else:
            save_figure(path, sheet)

    def end(self: object, file: IO[bytes], *args: object, **options: object) -> None:
        file.write(b"half of a picture")
        raise KeyboardInterrupt

    save()
    before = path.read_bytes()
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", end)
    monkeypatch.setattr("PIL.Image.Image.save", end)
    with pytest.raises(KeyboardInterrupt):
        save()
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_the_ticks_of_the_manifold_are_its_values() -> None:
    sheet = manifold_sheet(linear_model(2))
    # The smallest of 20 equally probable values is the 2.5 % quantile.
    assert (sheet.column_names[0], sheet.column_names[-1]) == ("−1.96", "1.96")
    assert (sheet.row_names[0], sheet.row_names[-1]) == ("1.96", "−1.96")
    assert sum(map(bool, sheet.column_names)) == 6


@pytest.mark.parametrize("classes", [1, 10, 30])
@pytest.mark.parametrize("stretch", [(1, 1), (40, 1), (1, 40)])
def test_nothing_of_a_scatter_is_clipped(tmp_path: Path, classes: int, stretch: tuple[int, int]) -> None:
    mean, labels = torch.randn(300, 2) * torch.tensor(stretch), torch.arange(300) % classes
    save_latent_scatter(tmp_path / "s.png", mean, labels, "Posterior means of test images, epoch 10")
    with Image.open(tmp_path / "s.png") as picture:
        pixels = np.asarray(picture.convert("L"))
    # A margin of white on every side.
    assert min(edge.min() for edge in (pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1])) == 255
