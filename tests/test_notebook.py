"""The notebook in docs/ runs, cell by cell, and needs nothing but the package."""

import json
import re

import matplotlib as mpl
import pytest

from commands import REPOSITORY


@pytest.mark.slow
def test_every_cell_of_the_notebook_runs(capsys: pytest.CaptureFixture[str]) -> None:
    mpl.use("template")  # draws nothing, so that `show` opens no window
    cells = json.loads((REPOSITORY / "docs" / "python_api.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    printed = capsys.readouterr().out
    assert "this model takes images of 1×8×8" in printed
    elbo, log_px, gap = (
        float(re.search(pattern, printed)[1])  # type: ignore[index]
        for pattern in (r"ELBO +(\S+) nats", r"about +(\S+),", r"gap +(\S+)\n")
    )
    assert elbo < log_px
    assert gap == pytest.approx(log_px - elbo, abs=0.011)
