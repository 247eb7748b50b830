"""The notebook in docs/ runs, cell by cell, on a fresh run."""

import json
from pathlib import Path

import matplotlib as mpl
import pytest

from commands import REPOSITORY, train_quickly


def test_every_cell_of_the_notebook_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUN", str(train_quickly(tmp_path / "run")))
    mpl.use("template")  # draws nothing, so that `show` opens no window
    cells = json.loads((REPOSITORY / "docs" / "python_api.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    assert "this model takes images of 1×8×8" in capsys.readouterr().out
