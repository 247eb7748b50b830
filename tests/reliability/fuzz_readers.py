"""Damaged files for every reader: each gives the right data, or says in one line what is wrong.

python -m reliability.fuzz_readers [inputs=10000] [seed=0]
"""

import gzip
import io
import random
import struct
import sys
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from omegaconf import OmegaConf
from PIL import Image

from vae.checks import ConfigError
from vae.data.cache_file import CacheWriter, DamagedCacheError, open_cache
from vae.data.celeba import ATTRIBUTES, IMAGES, PARTITION, CelebA
from vae.data.decode import BadImageError, Transform
from vae.data.image_files import ZipFiles, is_below, open_zip
from vae.data.mnist import MNIST
from vae.run.checkpoint import SealedCheckpoints, newest_undamaged, read_checkpoint
from vae.run.directory import RunDirectory
from vae.sweep.directory import SweepDirectory

SECONDS = 5.0
"""How long one input may take."""
TRANSFORM = Transform(3, 8, 8)

INSERTED = (b"../", b"\n", b"{", b"${x}", b"&a *a", b": ", b"_target_: os.system\n", b"\xc3")


class Reader(NamedTuple):
    """A file as it should be, and what reads it.

    sealed: whether it has checksums, so that whatever is read must be what was written.
    """

    content: bytes
    read: Callable[[bytes], Any]
    sealed: bool = False


def picture(draw: random.Random, image_format: str) -> bytes:
    """A small photograph of noise."""
    pixels = np.frombuffer(draw.randbytes(12 * 10 * 3), np.uint8).reshape(12, 10, 3)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, image_format)
    return file.getvalue()


def images(image_format: str) -> Callable[[Path], Reader]:
    """Encoded images."""
    return lambda folder: Reader(picture(random.Random(0), image_format), TRANSFORM)


def zips(folder: Path) -> Reader:
    """A zip of images, whose entries' names must stay below it."""
    file, path = io.BytesIO(), folder / "images.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("a/1.png", "a/2.jpg", "b/3.webp"):
            archive.writestr(name, picture(random.Random(name), {"g": "PNG", "p": "WEBP"}.get(name[-1], "JPEG")))

    def read(content: bytes) -> list[Any]:
        path.write_bytes(content)
        names = list(open_zip(path).NameToInfo)
        assert all(map(is_below, names))
        files = ZipFiles(path, names)
        return [_image_or_why(files, position) for position in range(len(names))]

    return Reader(file.getvalue(), read)


def _image_or_why(files: ZipFiles, position: int) -> Any:
    try:
        return TRANSFORM(files.read(position))
    except BadImageError as error:
        return str(error)


def idx(folder: Path) -> Reader:
    """MNIST's header with its sizes; the pixels behind it are not touched."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    labels = struct.pack(">II", 2049, 10_000) + bytes(10_000)
    for name, content in (("t10k-labels-idx1-ubyte", labels), ("train-labels-idx1-ubyte", labels)):
        (raw / name).write_bytes(content)
    (raw / "train-images-idx3-ubyte").write_bytes(b"")
    pixels = bytes(10_000 * 28 * 28)

    def read(header: bytes) -> torch.Tensor:
        (raw / "t10k-images-idx3-ubyte").write_bytes(header + pixels)
        return MNIST(str(folder))._read("t10k").images

    return Reader(struct.pack(">IIII", 2051, 10_000, 28, 28), read)


def idx_zipped(folder: Path) -> Reader:
    """MNIST's labels, zipped as they are published."""
    reader = idx(folder)
    raw = folder / "MNIST" / "raw"
    reader.read(reader.content)
    labels = (raw / "t10k-labels-idx1-ubyte").read_bytes()

    def read(content: bytes) -> torch.Tensor:
        # As torchvision unpacks it.
        try:
            (raw / "t10k-labels-idx1-ubyte").write_bytes(gzip.decompress(content)[:100_000])
        except (OSError, EOFError, ValueError, gzip.zlib.error) as error:  # type: ignore[attr-defined]
            raise ConfigError(f"not unpacked: {type(error).__name__}") from error
        return MNIST(str(folder))._read("t10k").labels

    return Reader(gzip.compress(labels, mtime=0), read)


def lists(name: str) -> Callable[[Path], Reader]:
    """CelebA's lists of splits and of attributes."""

    def make(folder: Path) -> Reader:
        celeba = CelebA(str(folder), str(folder / "cache"))
        (celeba.folder / IMAGES).mkdir(parents=True)
        names = [f"{n:06}.jpg" for n in range(1, 7)]
        (celeba.folder / f"{PARTITION}.txt").write_text(
            "".join(f"{name} {n % 3}\n" for n, name in enumerate(names))
        )
        content = (celeba.folder / f"{PARTITION}.txt").read_bytes()
        if name == ATTRIBUTES:
            celeba.memory["rows"] = torch.arange(6)
            rows = "".join(f"{name} {' '.join('-1' if n % 2 else '1' for n in range(4))}\n" for name in names)
            content = f"6\nBald Smiling Young Male\n{rows}".encode()
        path = celeba.folder / f"{name}.txt"

        def read(content: bytes) -> Any:
            path.write_bytes(content)
            listed, parts = celeba._partition()
            assert all(is_below(each) and "/" not in each for each in listed)
            return celeba._read_attributes() if name == ATTRIBUTES else (listed, parts)

        return Reader(content, read)

    return make


def caches(folder: Path) -> Reader:
    """Decoded images."""
    path = folder / "some.images"
    with path.open("wb") as file:
        writer = CacheWriter(file, (3, 4, 4), "key")
        for _ in range(5):
            writer.append(torch.randint(0, 256, (3, 4, 4), dtype=torch.uint8))
        writer.finish(6, {2: ("name", "why")})

    def read(content: bytes) -> Any:
        # Another file each time, as the last may still be mapped.
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        opened = open_cache(path, "key", verify=True)
        return [opened.images.clone(), opened.rows, opened.left_out]

    return Reader(path.read_bytes(), read, sealed=True)


def checkpoints(sealed: bool) -> Callable[[Path], Reader]:
    """Checkpoints with a seal, or without as another program may have written them."""

    def make(folder: Path) -> Reader:
        path = folder / "last.ckpt"
        SealedCheckpoints().save_checkpoint({"state_dict": {"w": torch.arange(40.0)}, "step": 3}, path)

        def read(content: bytes) -> Any:
            path.write_bytes(content)
            if sealed:
                assert newest_undamaged(folder) == path
            return read_checkpoint(path)

        if not sealed:
            torch.save({"state_dict": {"w": torch.arange(40.0)}}, path)
        return Reader(path.read_bytes(), read, sealed)

    return make


def run_configs(folder: Path) -> Reader:
    """.hydra/config.yaml of a run."""
    from hydra import compose, initialize_config_dir

    from vae.paths import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("train", ["name=fuzz", f"paths.run={folder}", "logger=csv"])
    run = RunDirectory(folder)
    run.write_config(config)

    def read(content: bytes) -> Any:
        run.config_file.write_bytes(content)
        return OmegaConf.to_yaml(run.config())

    return Reader(run.config_file.read_bytes(), read)


def sweep_files(folder: Path) -> Reader:
    """sweep.json."""
    sweep = SweepDirectory(folder)
    sweep.write([], arguments=["latent_size=2,3"], identity={"seed": 0})

    def read(content: bytes) -> Any:
        sweep.manifest_file.write_bytes(content)
        return sweep.manifest()

    return Reader(sweep.manifest_file.read_bytes(), read)


READERS: dict[str, Callable[[Path], Reader]] = {
    "idx": idx,
    "idx.gz": idx_zipped,
    "zip": zips,
    "JPEG": images("JPEG"),
    "PNG": images("PNG"),
    "WebP": images("WEBP"),
    "list of splits": lists(PARTITION),
    "list of attributes": lists(ATTRIBUTES),
    "cache": caches,
    "checkpoint": checkpoints(sealed=True),
    "checkpoint without seal": checkpoints(sealed=False),
    "run config": run_configs,
    "sweep.json": sweep_files,
}


def mutate(content: bytes, draw: random.Random) -> bytes:
    """Damage as disks, networks, editors and people do it, once to four times."""
    data = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(data) + 1)
        length = min(draw.choice((1, 1, 2, 4, 8, 64)), len(data) - at)
        kind = draw.randrange(8)
        if kind == 0 and data:
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + length] = draw.randbytes(length)
        elif kind == 3:
            data[at:at] = draw.randbytes(draw.choice((1, 3, 100)))
        elif kind == 4:
            del data[at : at + length]
        elif kind == 5:
            data[at : at + length] = draw.choice((b"\x00", b"\xff", b"\x7f", b"9", b"/", b"."))[:1] * length
        elif kind == 6:
            other = draw.randrange(len(data) + 1)
            data[at:at] = data[other : other + 50]
        else:
            data[at:at] = draw.choice(
                (b"../", b"\n", b"{", b"${x}", b"&a *a", b": ", b"_target_: os.system\n", b"\xc3")
            )
    return bytes(data)


def same(first: Any, second: Any) -> bool:
    """Whether two nested containers hold the same, tensors included."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return (
            isinstance(second, dict)
            and first.keys() == second.keys()
            and all(same(first[k], second[k]) for k in first)
        )
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


def fuzz(name: str, inputs: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Give a reader so many damaged files: how many were read and refused, and what went wrong."""
    reader, draw = READERS[name](folder), random.Random(f"{name} {seed}")
    right = reader.read(reader.content)
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(inputs):
        content, started = mutate(reader.content, draw), time.monotonic()
        try:
            found = reader.read(content)
            counts["read"] += 1
            if reader.sealed and not same(found, right):
                wrong.append(f"{name} {number}: other data was read")
        except (ConfigError, BadImageError, DamagedCacheError) as error:
            counts["refused"] += 1
            if "\n" in str(error):
                wrong.append(f"{name} {number}: several lines: {error!s}")
        except Exception as error:
            wrong.append(f"{name} {number}: {type(error).__name__}: {str(error)[:200]}")
        if time.monotonic() - started > SECONDS:
            wrong.append(f"{name} {number}: took {time.monotonic() - started:.1f} s")
    return counts, wrong


def main(inputs: int = 10_000, seed: int = 0) -> int:
    """Fuzz every reader and print what came of it; the exit status."""
    warnings.simplefilter("ignore")
    failed = 0
    for name in READERS:
        with tempfile.TemporaryDirectory() as folder:
            counts, wrong = fuzz(name, inputs, seed, Path(folder))
        failed += len(wrong)
        print(f"{name}: {inputs} inputs, {dict(counts)}, {len(wrong)} wrong", *wrong[:8], sep="\n    ", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(**{key: int(value) for key, _, value in (a.partition("=") for a in sys.argv[1:])}))
