"""Pictures for a page or a paper: grids with a title as PNG, PDF or SVG, and animations."""

import shutil
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from vae.checks import ConfigError, check_choice
from vae.picture.rows import grid

SUFFIXES = (".png", ".pdf", ".svg")
LINE, MARGIN = 0.17, 0.06
"""Inches of page for a line of small text, and above and below the title."""


def save_figure(
    path: Path,
    images: Float[Tensor, "N C H W"],
    columns: int,
    title: str = "",
    row_names: Sequence[str] = (),
) -> None:
    """Images in a grid below a title, each pixel of them a crisp square.

    Args:
        path: ends in .png, .pdf or .svg.
        images: row by row, in [0, 1].
        columns: images in a row.
        title: above the grid.
        row_names: to the left of each row.

    Raises:
        ConfigError: the path has another ending.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    check_choice("format", path.suffix, SUFFIXES)
    pixels = as_bytes(grid(images, columns))
    height, width = pixels.shape[:2]
    inches = 6.5 if columns > 2 else 3.25
    margin = 0.07 * max((len(name) for name in row_names), default=0)
    # A whole number of dots for every pixel, and at least 150 to the inch.
    enlargement = -(-150 * (inches - margin) // width)
    figure = Figure(figsize=(inches, inches), dpi=width * enlargement / (inches - margin))
    lines = textwrap.wrap(title, int(inches * 15))
    head = LINE * len(lines) + (2 * MARGIN if lines else 0)
    body = (inches - margin) * height / width
    figure.set_size_inches(inches, head + body)
    axes = figure.add_axes((margin / inches, 0, 1 - margin / inches, body / (head + body)))
    axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="none", aspect="auto")
    axes.set_axis_off()
    if lines:
        middle = 1 - head / (head + body) / 2
        figure.text(0.5, middle, "\n".join(lines), ha="center", va="center", fontsize=9, linespacing=1.1)
    rows = len(row_names)
    for row, name in enumerate(row_names):
        axes.text(
            -0.01, 1 - (row + 0.5) / rows, name, ha="right", va="center", fontsize=7, transform=axes.transAxes
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}):
        figure.savefig(path)


def save_single_images(folder: Path, images: Float[Tensor, "N C H W"]) -> None:
    """Each image as it is, 00000.png, 00001.png, …"""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(as_bytes(image)).save(folder / f"{number:05d}.png")


def save_animation(path: Path, frames: Sequence[UInt8[np.ndarray, "..."]], seconds_per_frame: float) -> None:
    """Frames of one size as a GIF that repeats for ever, or as an MP4, by ffmpeg.

    Raises:
        ConfigError: the path ends in neither .gif nor .mp4, or there is no ffmpeg.
    """
    check_choice("format", path.suffix, (".gif", ".mp4"))
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".mp4":
        return _save_mp4(path, frames, seconds_per_frame)
    pictures = [Image.fromarray(frame) for frame in frames]
    pictures[0].save(
        path, save_all=True, append_images=pictures[1:], duration=round(1000 * seconds_per_frame), loop=0
    )
    return None


def _save_mp4(path: Path, frames: Sequence[UInt8[np.ndarray, "..."]], seconds_per_frame: float) -> None:
    height, width = frames[0].shape[:2]
    # The usual codec takes even sides only.
    colour = [np.broadcast_to(f[..., None] if f.ndim == 2 else f, (height, width, 3)) for f in frames]
    even = [np.pad(f, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") for f in colour]
    size = f"{width + width % 2}x{height + height % 2}"
    command = [find_ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size]
    command += ["-r", f"{1 / seconds_per_frame:g}", "-i", "-", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, input=b"".join(f.tobytes() for f in even), check=True)


def find_ffmpeg() -> str:
    """The path of ffmpeg: the system's, or else that of the package imageio-ffmpeg (the extra `video`).

    Raises:
        ConfigError: there is neither.
    """
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise ConfigError(
            "animation=mp4: needs ffmpeg, which is not installed; pip install 'vae[video]', or use animation=gif"
        ) from error
    return get_ffmpeg_exe()


def as_bytes(image: Float[Tensor, "C H W"]) -> UInt8[np.ndarray, "..."]:
    """An image in [0, 1] as bytes, (H, W) if grey and (H, W, 3) if not."""
    pixels = (image.detach().cpu().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return (pixels[0] if len(pixels) == 1 else pixels.movedim(0, -1)).numpy()
