"""Pictures for a page or a paper: sheets with labels as PNG, PDF or SVG, scatter plots, and animations."""

import json
import shutil
import subprocess
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int64, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from vae.checks import ConfigError, check_choice
from vae.picture.sheet import PAD, Sheet, as_bytes, column_starts
from vae.run.files import open_atomically

SUFFIXES = (".png", ".pdf", ".svg")
WIDTH, HEIGHT = 6.5, 9.0
"""The largest width and height of a figure in inches, so that it fits a page with a caption."""
LINE, MARGIN, LETTER = 0.17, 0.06, 0.07
"""The inches on the page for a line of text, for the margin around it, and for a letter of a label."""
DOTS = 150
"""The minimum number of dots per inch."""
MOST_PIXELS = 1 << 24
"""The largest number of pixels of a sheet that is read again. The largest sheet drawn has about four million."""


def save_figure(path: Path, sheet: Sheet) -> None:
    """Save a sheet with its title and labels. Each pixel of its images becomes a crisp square.

    The metadata of a PNG say where the images are and what is written beside them, for `read_sheet`.

    Args:
        path: a path that ends in .png, .pdf or .svg.
        sheet: the sheet to draw.

    Raises:
        ConfigError: the path has another suffix.
    """
    from matplotlib import rc_context

    check_choice("format", path.suffix, SUFFIXES)
    figure, said = draw_sheet(sheet)
    with rc_context({"svg.fonttype": "none", "pdf.fonttype": 42}), open_atomically(path) as file:
        if path.suffix == ".png":
            texts = PngInfo()
            texts.add_text("Title", sheet.title)
            texts.add_text("Description", json.dumps(said, ensure_ascii=False))
            Image.fromarray(_dots(figure, said)).save(file, "PNG", pnginfo=texts, dpi=(figure.dpi, figure.dpi))
        else:
            figure.savefig(file, format=path.suffix[1:], metadata={"Title": sheet.title})


def _dots(figure: Any, said: dict[str, Any]) -> UInt8[np.ndarray, "H W 3"]:
    """Return the dots of a figure of `draw_sheet`.

    The pixels are enlarged here: Matplotlib would take several times as long as for all else.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas, (shown,) = FigureCanvasAgg(figure), figure.axes[0].images
    shown.set_visible(False)
    canvas.draw()
    dots = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    left, top, width, height = said["sheet"]
    pixels = np.asarray(shown.get_array())
    dots[top : top + height, left : left + width] = pixels.repeat(said["dot"], 0).repeat(said["dot"], 1)
    return dots


def draw_sheet(sheet: Sheet) -> tuple[Any, dict[str, Any]]:
    """Return a sheet as a figure of Matplotlib's, and where its images are and what is written beside them.

    The layout is in dots. Each pixel of the sheet takes a whole number of dots.
    """
    from matplotlib.figure import Figure

    pixels = sheet.pixels()
    height, width = pixels.shape[:2]
    left = LETTER * max((len(name) for name in sheet.row_names), default=0) + (LINE if sheet.y else 0)
    paper = min(max(0.8 * sheet.columns, WIDTH / 2), WIDTH)
    lines = textwrap.wrap(sheet.title, int(paper * 14.5))
    head = LINE * len(lines) + (2 * MARGIN if lines else 0)
    foot = (LINE if any(sheet.column_names) else 0) + (LINE if sheet.x else 0)
    inches = min(paper - left, (HEIGHT - head - foot) * width / height)
    enlargement = -int(-DOTS * inches // width)  # rounded up
    dpi = width * enlargement / inches
    before, above, below = (round(part * dpi) for part in ((paper - inches + left) / 2, head, foot))
    whole_width, whole_height = round(paper * dpi), above + height * enlargement + below
    figure = Figure(figsize=(whole_width / dpi, whole_height / dpi), dpi=dpi)
    box = (before, above, width * enlargement, height * enlargement)
    axes = figure.add_axes(
        (box[0] / whole_width, below / whole_height, box[2] / whole_width, box[3] / whole_height)
    )
    # Three channels, because a colour map would shift some greys by one.
    axes.imshow(
        np.atleast_3d(pixels).repeat(3 if pixels.ndim == 2 else 1, -1), interpolation="none", aspect="auto"
    )
    axes.set_axis_off()
    if lines:
        middle = 1 - above / whole_height / 2
        figure.text(0.5, middle, "\n".join(lines), ha="center", va="center", fontsize=9, linespacing=1.1)
    _label(axes, sheet, height, width, LINE * dpi / enlargement)
    return figure, {
        "sheet": box,
        "dot": enlargement,
        "tile": sheet.tile,
        "columns": sheet.columns,
        "group": sheet.group,
        "row_names": list(sheet.row_names),
        "column_names": list(sheet.column_names),
        "x": sheet.x,
        "y": sheet.y,
    }


def _label(axes: Any, sheet: Sheet, height: int, width: int, line: float) -> None:
    """Write the labels, in the sheet's own pixels. A line of text takes `line` pixels."""
    tile_height, tile_width = sheet.tile
    for row, name in enumerate(sheet.row_names):
        middle = PAD + row * (tile_height + PAD) + tile_height / 2
        axes.text(-width * 0.01, middle, name, ha="right", va="center", fontsize=7)
    for start, name in zip(
        column_starts(sheet.columns, tile_width, sheet.group), sheet.column_names, strict=False
    ):
        axes.text(start + tile_width / 2, height + line / 2, name, ha="center", va="center", fontsize=7)
    if sheet.x:
        axes.text(width / 2, height + line * 1.4, sheet.x, ha="center", va="center", fontsize=8)
    if sheet.y:
        longest = max((len(name) for name in sheet.row_names), default=0)
        place = -(LETTER * longest + LINE / 2) / LINE * line
        axes.text(place, height / 2, sheet.y, ha="center", va="center", fontsize=8, rotation=90)


def read_sheet(path: Path) -> tuple[UInt8[np.ndarray, "..."], dict[str, Any]]:
    """Read the images of a PNG that `save_figure` wrote, and its title and labels.

    The images are (H, W, 4), transparent between them. Any other PNG gives the whole picture without labels.
    """
    with Image.open(path, formats=("PNG",)) as image:
        if image.width * image.height > MOST_PIXELS:
            raise ConfigError(f"{path}: {image.width}×{image.height} pixels, more than {MOST_PIXELS:,}")
        text = dict(getattr(image, "text", {}))
        try:
            said: dict[str, Any] = json.loads(text["Description"])
            left, top, width, height = said.pop("sheet")
            dot, (tile_height, tile_width) = said.pop("dot"), said.pop("tile")
            columns, group = said.pop("columns"), said.pop("group")
        except (KeyError, ValueError):
            return np.asarray(image.convert("RGBA")), {"title": text.get("Title", path.stem)}
        sheet = image.crop((left, top, left + width, top + height))
        pixels = np.asarray(
            sheet.resize((width // dot, height // dot), Image.Resampling.NEAREST).convert("RGBA")
        ).copy()
    shown = np.zeros(pixels.shape[:2], bool)
    for top in range(PAD, pixels.shape[0], tile_height + PAD):
        for start in column_starts(columns, tile_width, group):
            shown[top : top + tile_height, start : start + tile_width] = True
    pixels[~shown] = 0
    return pixels, said | {"title": text["Title"]}


def save_latent_scatter(path: Path, mean: Float[Tensor, "N 2"], labels: Int64[Tensor, " N"], title: str) -> None:
    """Save a PNG of the posterior means of a model with two latents, coloured by label."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 5), layout="constrained")
    axes = figure.add_subplot()
    first, second = mean.cpu().T.numpy()
    points = axes.scatter(first, second, c=labels.numpy(), cmap="tab10", s=6, alpha=0.7)
    axes.set(xlabel="E[z₁|x]", ylabel="E[z₂|x]", aspect="equal")
    axes.set_title(title, fontsize=9)
    classes = len(labels.unique())
    if 1 < classes <= 20:
        handles = points.legend_elements(num=labels.unique().tolist())
        figure.legend(*handles, title="label", loc="outside right center", fontsize=8, frameon=False)
    # If the limits are far apart in one direction only, an equal aspect leaves space that must not be cut.
    with open_atomically(path) as file:
        figure.savefig(file, format="png", dpi=DOTS, bbox_inches="tight", metadata={"Title": title})


def save_single_images(folder: Path, images: Float[Tensor, "N C H W"]) -> None:
    """Save each image to its own file: 00000.png, 00001.png, …"""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(as_bytes(image)).save(folder / f"{number:05d}.png")


def frame(sheet: Sheet) -> UInt8[np.ndarray, "H W 3"]:
    """Return a sheet with its title and labels as a frame of an animation."""
    return _dots(*draw_sheet(sheet))


def save_animation(path: Path, frames: Sequence[UInt8[np.ndarray, "..."]], seconds_per_frame: float) -> None:
    """Save frames of one size as a GIF that repeats forever, or as an MP4 (by ffmpeg).

    Raises:
        ConfigError: the path ends in neither .gif nor .mp4, or there is no ffmpeg.
    """
    check_choice("format", path.suffix, (".gif", ".mp4"))
    if path.suffix == ".mp4":
        path.parent.mkdir(parents=True, exist_ok=True)
        return _save_mp4(path, frames, seconds_per_frame)
    first, *others = [Image.fromarray(frame) for frame in frames]
    duration = round(1000 * seconds_per_frame)
    with open_atomically(path) as file:
        first.save(file, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
    return None


def _save_mp4(path: Path, frames: Sequence[UInt8[np.ndarray, "..."]], seconds_per_frame: float) -> None:
    height, width = frames[0].shape[:2]
    # The usual codec accepts even sides only.
    colour = [np.broadcast_to(f[..., None] if f.ndim == 2 else f, (height, width, 3)) for f in frames]
    even = [np.pad(f, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge") for f in colour]
    size = f"{width + width % 2}x{height + height % 2}"
    command = [find_ffmpeg(), "-y", "-loglevel", "error", "-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size]
    command += ["-r", f"{1 / seconds_per_frame:g}", "-i", "-", "-pix_fmt", "yuv420p", str(path)]
    subprocess.run(command, input=b"".join(f.tobytes() for f in even), check=True)


def find_ffmpeg() -> str:
    """Return the path of ffmpeg: the system's or, if there is none, that of imageio-ffmpeg (the extra `video`).

    Raises:
        ConfigError: neither of them is installed.
    """
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        from imageio_ffmpeg import get_ffmpeg_exe
    except ImportError as error:
        raise ConfigError(
            "animation=mp4: needs ffmpeg, which is not installed; pip install -e '.[video]', or use animation=gif"
        ) from error
    return get_ffmpeg_exe()
