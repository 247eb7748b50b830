"""`python -m vae.sample`: every picture is there, of the right size, and bad input is one line."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from commands import call_command, train_quickly
from vae.data.decode import FORMATS
from vae.picture.figure import find_ffmpeg, save_animation, save_figure
from vae.picture.sheet import Sheet
from vae.random import generator
from vae.trained.load import load_model
from vae.trained.nearest import nearest


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_quickly(
        tmp_path_factory.mktemp("sampled") / "run", "callback=default", "callback.pictures.every_n_epochs=1"
    )


def draw(run: Path, *arguments: str) -> list[Path]:
    """The files that the command says it made."""
    done = call_command("vae.sample", f"run={run}", *arguments, folder=run.parent)
    assert done.returncode == 0, done.stderr
    files = [Path(line) for line in done.stdout.splitlines()]
    assert all(file.exists() for file in files)
    return files


def test_all_pictures_are_drawn(run: Path) -> None:
    files = draw(run, "picture=all", "n=6", "steps=3", f"out={run / 'all'}")
    wanted = {"samples", "reconstructions", "interpolation", "traversal", "neighbors", "progress"}
    assert {file.stem for file in files} == wanted
    with Image.open(run / "all" / "interpolation.gif") as animation:
        assert animation.n_frames > 30
    for file in files:
        with Image.open(file) as picture:
            assert np.asarray(picture.convert("L")).std() > 10, file


def test_what_cannot_be_drawn_is_left_out_of_all_with_a_reason(run: Path, tmp_path: Path) -> None:
    Image.new("L", (8, 8), 99).save(tmp_path / "only.png")
    done = call_command(
        "vae.sample",
        f"run={run}",
        f"images={tmp_path}/only.png",
        "picture=all",
        "n=3",
        "steps=3",
        f"out={tmp_path / 'all'}",
        folder=run.parent,
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"no interpolation: images=.*only\.png: interpolation needs two images\n", done.stderr)
    names = {Path(line).stem for line in done.stdout.splitlines()}
    assert names == {"samples", "reconstructions", "traversal", "neighbors", "progress"}


@pytest.mark.parametrize("suffix", ["pdf", "svg"])
def test_pictures_for_papers(run: Path, suffix: str) -> None:
    assert [file.name for file in draw(run, "n=4", f"format={suffix}")] == [f"samples.{suffix}"]


def test_single_images_and_arrays_are_the_samples(run: Path) -> None:
    draw(run, "n=3", "seed=5", "save=[single,npz]", f"out={run / 'single'}")
    expected = load_model(run).sample(3, seed=5)
    np.testing.assert_allclose(np.load(run / "single" / "samples.npz")["images"], expected, atol=1e-6)
    with Image.open(run / "single" / "samples" / "00002.png") as picture:
        assert picture.size == (8, 8)
        np.testing.assert_allclose(np.asarray(picture) / 255, expected[2, 0].clamp(0, 1), atol=0.5 / 255 + 1e-6)


def test_a_traversal_starts_from_the_code_of_a_test_image(run: Path) -> None:
    draw(run, "picture=traversal", "steps=5", "save=[npz]", f"out={run / 'way'}")
    model = load_model(run)
    model.data.setup()
    first = torch.randperm(360, generator=generator("pictures of sample", 0))[0]
    expected = model.traverse(model.data.images("test", 360)[0][first], steps=5).flatten(1).sort(0)[0]
    found = torch.from_numpy(np.load(run / "way" / "traversal.npz")["images"]).unflatten(0, (3, 5))
    # Sorted, as the picture has the latent of the largest rate first.
    torch.testing.assert_close(found.flatten(1).sort(0)[0], expected)


def test_files_are_reconstructed(run: Path, tmp_path: Path) -> None:
    for number in range(2):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    files = draw(run, f"images={tmp_path}/*.png", "picture=[reconstructions,interpolation]", "animation=null")
    assert [file.stem for file in files] == ["reconstructions", "interpolation"]
    listed = f"images=[{tmp_path}/1.png,{tmp_path}/0.png]"
    files = draw(run, listed, "picture=interpolation", "interpolation=spherical", "animation=gif")
    assert [file.name for file in files] == ["interpolation.png", "interpolation.gif"]


def test_each_pixel_is_a_crisp_square(tmp_path: Path) -> None:
    checks = torch.zeros(1, 1, 8, 8)
    checks[..., ::2, 1::2] = checks[..., 1::2, ::2] = 1
    save_figure(tmp_path / "checks.png", Sheet(checks, 1))
    with Image.open(tmp_path / "checks.png") as picture:
        values = np.unique(np.asarray(picture.convert("L")))
    assert set(values) <= {0, 127, 128, 255}


def test_animations_keep_their_frames(tmp_path: Path) -> None:
    frames = [np.full((5, 7), 40 * i, np.uint8) for i in range(6)]
    save_animation(tmp_path / "a.gif", frames, 0.1)
    with Image.open(tmp_path / "a.gif") as animation:
        assert (animation.n_frames, animation.size) == (6, (7, 5))


@pytest.mark.parametrize("shape", [(5, 7), (48, 50, 3)])
def test_videos_keep_their_frames(tmp_path: Path, shape: tuple[int, ...]) -> None:
    if shutil.which("ffmpeg") is None:
        pytest.importorskip("imageio_ffmpeg", reason="neither ffmpeg nor the extra `video` is installed")
    frames = [np.full(shape, 40 * i, np.uint8) for i in range(6)]
    save_animation(tmp_path / "a.mp4", frames, 0.1)
    decode = [find_ffmpeg(), "-loglevel", "error", "-i", str(tmp_path / "a.mp4"), "-f", "rawvideo"]
    decoded = subprocess.run([*decode, "-pix_fmt", "gray", "-"], capture_output=True, check=True).stdout
    height, width = shape[0] + shape[0] % 2, shape[1] + shape[1] % 2
    read = np.frombuffer(decoded, np.uint8).reshape(-1, height, width)
    assert len(read) == 6
    # The codec is lossy, and keeps brightness in 219 steps.
    np.testing.assert_allclose(read.mean((1, 2)), [40 * i for i in range(6)], atol=4)


def test_without_ffmpeg_there_is_one_line_before_anything_is_drawn(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    done = call_command("vae.sample", f"run={run}", "animation=mp4", f"out={run / 'none'}", folder=run.parent)
    assert done.stderr.startswith("error: animation=mp4: needs ffmpeg, which is not installed")
    assert not (run / "none").exists()


def test_the_nearest_of_training_images_are_themselves(run: Path) -> None:
    data = load_model(run).data
    data.setup()
    x = data.images("train", 5)[0]
    found, distances = nearest(x, data, 2, batch_size=300)
    torch.testing.assert_close(found[:, 0], x)
    assert (distances[:, 0] < 1e-3).all()
    assert (distances[:, 1] >= distances[:, 0]).all()


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["n=0"], "error: n=0: must be a whole number of at least 1"),
        (["steps=1"], "error: steps=1: must be a whole number of at least 2"),
        (["temperature=-1"], "error: temperature=-1: must be a number of at least 0"),
        (
            ["picture=painting"],
            "error: picture=painting: must be null or one of samples, .*, or a list of such in brackets",
        ),
        (["picture=manifold"], "error: picture=manifold: needs latent_size=2, but this run has 3"),
        (["format=bmp"], "error: format=bmp: must be one of png, pdf, svg"),
        (["save=[cloud]"], "error: save=cloud: must be one of grid, single, npz"),
        (["show=dreams"], "error: show=dreams: must be one of means, samples"),
        (["source=thin_air"], "error: source=thin_air: must be one of prior, density"),
        (["images=/nowhere/*.png"], r"error: images=/nowhere/\*\.png: there is no such file"),
        (["images=large.png"], "error: images=large.png: 9×9 pixels, but this model takes 8×8"),
        (["images=text.png"], "error: images=text.png: not an image .*"),
        (["attribute=Smiling"], "error: attribute: Digits has no attributes; data=celeba has"),
        (["run=/nowhere"], "error: /nowhere: not a run directory .*"),
        (["tempreature=1"], r"error: tempreature=1: no such key; did you mean temperature=1\?.*"),
    ],
)
def test_bad_input_is_one_line(run: Path, arguments: list[str], line: str) -> None:
    Image.new("L", (9, 9)).save(run.parent / "large.png")
    (run.parent / "text.png").write_text("no image")
    done = call_command("vae.sample", f"run={run}", *arguments, folder=run.parent)
    assert done.returncode == 1
    assert re.fullmatch(line, done.stderr.strip()), done.stderr


def test_no_program_is_started_for_what_only_claims_to_be_an_image(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
    (tmp_path / "x.png").write_bytes(eps)
    monkeypatch.setattr(subprocess, "Popen", lambda *arguments, **options: pytest.fail("a program was started"))
    done = call_command("vae.sample", f"run={run}", f"images={tmp_path}/x.png", folder=run.parent)
    why = f"not an image of a format that is read ({', '.join(FORMATS)})"
    assert done == (1, "", f"error: images={tmp_path}/x.png: {why}\n")


def test_nothing_is_written_into_a_run_with_links(run: Path, tmp_path: Path) -> None:
    theirs, mine = tmp_path / "theirs", tmp_path / "mine"
    shutil.copytree(run, theirs)
    mine.write_text("mine")
    (theirs / "samples").mkdir(exist_ok=True)
    (theirs / "samples" / "samples.png").unlink(missing_ok=True)
    (theirs / "samples" / "samples.png").symlink_to(mine)
    done = call_command("vae.sample", f"run={theirs}", "n=4", folder=tmp_path)
    assert done.returncode == 1
    assert "samples.png: is a link" in done.stderr
    assert mine.read_text() == "mine"
