"""HTML pages in one file, which need no other file and no network."""

import base64
import io
import re
from html import escape
from pathlib import Path
from typing import Any

from vae.run.files import to_json

ASSETS = Path(__file__).parent / "assets"
SKELETON = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline';
 script-src 'unsafe-inline'">
<title>{{TITLE}}</title>
<style>
{{STYLE}}</style>
</head>
<body>
<main id="page"></main>
<noscript>This page is drawn by its own script, which this browser has switched off.</noscript>
<script id="data" type="application/json">{{DATA}}</script>
<script>
{{CHARTS}}</script>
<script>
{{SCRIPT}}</script>
</body>
</html>
"""


def page(title: str, script: str, data: dict[str, Any]) -> str:
    """Return a page that shows data by one of the scripts in `assets`.

    Everything that comes from a run is in the data. The scripts turn it into text, never into markup. The page's
    policy forbids the browser to send any request.

    Args:
        title: the title of the browser's tab.
        script: the name of a file in `assets`, without its suffix.
        data: what JSON can hold; numbers that are not finite become null.
    """
    parts = {
        "TITLE": escape(title),
        "STYLE": (ASSETS / "page.css").read_text(encoding="utf-8"),
        # A browser ends a script at any `</`, and does not end it after `<!--<script`.
        "DATA": to_json(data).replace("<", "\\u003c"),
        "CHARTS": (ASSETS / "charts.js").read_text(encoding="utf-8"),
        "SCRIPT": (ASSETS / f"{script}.js").read_text(encoding="utf-8"),
    }
    # Replace all markers in one pass, so that a marker inside a part stays as it is.
    return re.sub(r"\{\{([A-Z]+)\}\}", lambda marker: parts[marker[1]], SKELETON)


def picture(path: Path, side: int) -> dict[str, Any]:
    """Return a PNG as a page shows it: a data URL of its images, with their title and labels as text.

    Args:
        path: a file that `vae.picture.figure` saved, or any other PNG.
        side: the largest width and height, in pixels.
    """
    from PIL import Image

    from vae.picture.figure import read_sheet

    pixels, texts = read_sheet(path)
    image = Image.fromarray(pixels)
    image.thumbnail((side, side), Image.Resampling.BOX)
    # Grey sheets of enlarged pixels are smallest without losses, all others with losses that nobody sees.
    grey = image.width == pixels.shape[1] and bool((pixels[..., :1] == pixels[..., :3]).all())
    opaque = bool((pixels[..., 3] == 255).all())
    file = io.BytesIO()
    image.save(file, "WEBP", lossless=grey, quality=80, method=2)
    source = "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
    return texts | {"src": source, "width": image.width, "height": image.height, "opaque": opaque}
