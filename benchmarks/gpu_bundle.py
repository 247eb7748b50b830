"""python -m benchmarks.gpu_bundle [FOLDER]: gather in one folder what a GPU machine without a network lacks.

The folder holds wheels of the packages that this project needs besides torch and Lightning; MNIST's files, packed;
and CelebA's faces as JPEGs of 64×64 pixels. The images are made from the files under DATA_DIR. On the other
machine:

    pip install --no-index --find-links gpu_bundle/wheels hydra-core omegaconf zuko rich hydra-joblib-launcher
    PYTHONPATH=src DATA_DIR=gpu_bundle/data python -m benchmarks.gpu out=DIR
"""

import gzip
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image

from vae.data.celeba import CelebA
from vae.paths import ROOT

PYTHON = "3.12"
WHEELS = (
    *("hydra-core", "omegaconf", "antlr4-python3-runtime", "zuko", "rich", "filelock", "jaxtyping", "beartype"),
    "hydra-joblib-launcher",
)
FACES = {"train": 4000, "val": 200, "test": 300}
QUALITY = 92


def gather_wheels(folder: Path, constraints: Path) -> None:
    """Get the tested versions of the packages. A package without a wheel is built."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    lines = constraints.read_text(encoding="utf-8").splitlines() if constraints.exists() else []
    for name in WHEELS:
        wanted = next((line for line in lines if line.startswith(f"{name}==")), name)
        binary = ["--no-deps", "--only-binary=:all:", "--python-version", PYTHON, "-d", str(folder)]
        if subprocess.run([*pip, "download", *binary, wanted], capture_output=True, check=False).returncode:
            subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), wanted], check=True)


def gather_mnist(source: Path, folder: Path) -> None:
    """Copy MNIST's four files, each packed."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.glob("*-ubyte*")):
        if file.suffix == ".gz":
            shutil.copyfile(file, folder / file.name)
        else:
            (folder / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), mtime=0))


def gather_faces(source: Path, folder: Path) -> None:
    """Save the first faces of each split, cropped and resized as in data=celeba."""
    with tempfile.TemporaryDirectory() as cache:
        data = CelebA(str(source), cache)
        data.prepare_data()
        data.setup()
        for split, count in FACES.items():
            (folder / split).mkdir(parents=True, exist_ok=True)
            faces = torch.cat(list(data.batches(split, count))).mul(255).round().byte()
            for number, face in enumerate(faces.permute(0, 2, 3, 1).numpy()):
                Image.fromarray(face).save(folder / split / f"{number:05d}.jpg", quality=QUALITY)


def main(folder: Path) -> None:
    """Gather everything that is available."""
    data = Path(os.environ.get("DATA_DIR", "data"))
    (folder / "wheels").mkdir(parents=True, exist_ok=True)
    gather_wheels(folder / "wheels", ROOT / "constraints.txt")
    gather_mnist(data / "MNIST" / "raw", folder / "data" / "MNIST" / "raw")
    if (data / "celeba").is_dir():
        gather_faces(data, folder / "data" / "faces64")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    print(f"{folder}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(Path(sys.argv[1] if sys.argv[1:] else "gpu_bundle"))
