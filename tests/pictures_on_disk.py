"""Small encoded images, and data sets made of them, as they lie on people's disks."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def pixels(seed: int, height: int = 218, width: int = 178) -> np.ndarray:
    """A smooth random colour image, uint8 (height, width, 3), which JPEG keeps almost unchanged."""
    coarse = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def encode(image: np.ndarray | Image.Image, file_format: str = "JPEG", **options: object) -> bytes:
    """The image as the bytes of a file."""
    buffer = io.BytesIO()
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def write_folder(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files, by name, into a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write files, by name, into a zip."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def faces(count: int) -> dict[str, bytes]:
    """`count` JPEGs of the size of CelebA's, by name."""
    return {f"{number:06d}.jpg": encode(pixels(number)) for number in range(1, count + 1)}


def write_lists(folder: Path, names: Sequence[str], parts: Sequence[int]) -> None:
    """CelebA's lists in their official formats, with two attributes: odd ones smile, multiples of 3 are young."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} {part}\n" for name, part in zip(names, parts, strict=True)]
    (folder / "list_eval_partition.txt").write_text("".join(lines))
    rows = []
    for name in names:
        number = int(name[:6])
        rows.append(f"{name} {'  1' if number % 2 else ' -1'} {' 1' if number % 3 == 0 else '-1'}\n")
    (folder / "list_attr_celeba.txt").write_text(f"{len(names)}\nSmiling Young\n{''.join(rows)}")


def write_celeba(root: Path, parts: Sequence[int] = (0, 0, 0, 0, 0, 1, 2, 0), zipped: bool = False) -> Path:
    """A CelebA of `len(parts)` images below `root`; its own folder."""
    files = faces(len(parts))
    write_lists(root / "celeba", list(files), parts)
    inside = {f"img_align_celeba/{name}": content for name, content in files.items()}
    if zipped:
        write_zip(root / "celeba" / "img_align_celeba.zip", inside)
    else:
        write_folder(root / "celeba", inside)
    return root / "celeba"
