"""Pages as a real browser shows them: headless Chromium, as wide as a desktop and as a phone, light and dark."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium to show the page in")
SIZES = [
    *((1400, "light"), (390, "dark")),
    *(pytest.param(*size, marks=pytest.mark.slow) for size in ((1400, "dark"), (390, "light"))),
]
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--virtual-time-budget=6000"),
)
# Collects whatever a page complains of, requests that its policy forbids included.
CATCH = """<script>window.problems = [];
window.addEventListener("error", (event) => window.problems.push(event.message));
window.addEventListener("securitypolicyviolation", (event) => window.problems.push(event.violatedDirective));
for (const kind of ["error", "warn"]) console[kind] = (...all) => window.problems.push(all.join(" "));</script>"""
# Leaves what a probe found where `--dump-dom` shows it.
REPORT = """
found.problems = window.problems;
found.width = [innerWidth, document.documentElement.scrollWidth];
found.dark = matchMedia("(prefers-color-scheme: dark)").matches;
found.ground = getComputedStyle(document.documentElement).backgroundColor;
document.body.innerHTML = "";
const result = { id: "found", textContent: JSON.stringify(found) };
document.body.append(Object.assign(document.createElement("pre"), result));
"""


def look_at(html: str, probe: str, folder: Path, width: int = 1400, scheme: str = "light") -> dict[str, Any]:
    """Show a page, run a script in it that fills the object `found`, and give that.

    With it come `problems`, what the page complained of; `width`, of the window and of all there is; `dark`,
    whether the page was asked to be; and `ground`, its colour.
    """
    # Chromium's windows are at least 500 pixels wide: a phone is a frame in one.
    script = f"<script>setTimeout(() => {{ const found = {{}};\n{probe}\n{REPORT} }}, 300)</script></body>"
    probed = html.replace("<head>", "<head>" + CATCH, 1).replace("</body>", script)
    (folder / "probed.html").write_text(probed)
    shown = folder / "probed.html"
    if width < 500:
        (folder / "phone.html").write_text(
            f"<!doctype html><meta name=color-scheme content='light dark'>"
            f"<iframe src=probed.html width={width} height=800></iframe>"
            "<script>addEventListener('message', (event) => { document.body.textContent = '';"
            "document.body.append(Object.assign(document.createElement('pre'),"
            "{ id: 'found', textContent: event.data })); })</script>"
        )
        shown = folder / "phone.html"
        (folder / "probed.html").write_text(
            probed.replace('document.body.innerHTML = "";', "parent.postMessage(JSON.stringify(found), '*');")
        )
    colours = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    places = [f"--user-data-dir={folder / 'profile'}", f"--window-size={max(width, 500)},900", colours]
    done = subprocess.run(
        [str(CHROMIUM), *FLAGS, *places, "--dump-dom", shown.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    match = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.DOTALL)
    assert match, done.stdout[-2000:]
    return json.loads(match[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))


def check_looks(found: dict[str, Any], width: int, scheme: str) -> None:
    """No complaint, nothing wider than the window, and the ground of the scheme."""
    assert found["problems"] == []
    assert found["width"][0] == width
    assert found["width"][1] <= width
    assert found["dark"] == (scheme == "dark")
    red = int(re.findall(r"\d+", found["ground"])[0])
    assert red < 60 if scheme == "dark" else red > 200
