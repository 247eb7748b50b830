"""The models under docs/models: they load from a clone, are what their cards say, and say nothing of a machine."""

import json
import re
import struct
from pathlib import Path

import pytest
import torch
from PIL import Image

from commands import REPOSITORY, call_command
from vae import load_model

MODELS = sorted((REPOSITORY / "docs" / "models").iterdir())
OF_A_MACHINE = re.compile(
    r"(?<![\w.:/])/(?:home|root|tmp|work|mnt|opt|usr|var|Users)\b|://(?!matplotlib\.org)|\\\\"
)
LARGEST = 5_000_000


def numbers_of(folder: Path) -> dict[str, float]:
    return json.loads((folder / "metrics.json").read_text())


def of_model(name: str) -> Path:
    pytest.importorskip("safetensors")
    return REPOSITORY / "docs" / "models" / name


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_it_loads_and_its_card_has_the_numbers_that_are_stored(folder: Path) -> None:
    model, card, numbers = (
        load_model(of_model(folder.name)),
        (folder / "README.md").read_text(),
        numbers_of(folder),
    )
    images = model.sample(4, seed=0)
    assert images.shape == (4, *model.image_shape)
    assert images.isfinite().all()
    # Of a deterministic code there is no NLL from draws.
    for name in ("elbo", "rate", *(["nll"] if "test/nll" in numbers else [])):
        assert f"| {name} | {numbers[f'test/{name}']:.6g}" in card
    assert numbers["test/elbo"] == pytest.approx(-numbers["test/distortion"] - numbers["test/rate"], rel=1e-4)
    for name in re.findall(r"!\[.*?\]\((.*?)\)", card):
        assert (folder / name).is_file()
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < LARGEST


@pytest.mark.parametrize("folder", MODELS, ids=lambda folder: folder.name)
def test_no_file_says_anything_of_a_machine(folder: Path) -> None:
    for file in folder.rglob("*.*"):
        if file.suffix == ".png":
            with Image.open(file) as image:
                said = " ".join(map(str, image.info.values()))
        elif file.suffix == ".safetensors":
            content = file.read_bytes()
            said = content[8 : 8 + struct.unpack("<Q", content[:8])[0]].decode()
        else:
            said = file.read_text(encoding="utf-8")
        assert OF_A_MACHINE.findall(said) == [], file


def test_the_number_of_the_digits_is_measured_again(tmp_path: Path) -> None:
    folder = of_model("digits")
    given = ["k=2", "metric=default", "trainer.accelerator=cpu", "log=false", f"out='{tmp_path / 'found'}'"]
    done = call_command("vae.evaluate", f"run='{folder}'", *given, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "found").rglob("evaluation.json")
    found = json.loads(file.read_text())["metrics"]
    for name in ("elbo", "distortion", "rate", "mse"):
        assert found[f"test/{name}"] == pytest.approx(numbers_of(folder)[f"test/{name}"], rel=1e-4), name


def test_the_number_of_mnist_is_that_of_some_images(real_data: Path) -> None:
    from torchvision.datasets import MNIST

    folder = of_model("mnist_2d")
    model, numbers = load_model(folder), numbers_of(folder)
    torch.manual_seed(0)
    elbo = model.elbo(MNIST(real_data, train=False).data[:1000], k=10)
    stderr = float(elbo.std()) / len(elbo) ** 0.5
    assert float(elbo.mean()) == pytest.approx(numbers["test/elbo"], abs=5 * stderr)
