"""The set of one's own in docs/data.md is one."""

import re
from pathlib import Path
from typing import Any

from vae.data import ImageDataModule

DOCS = Path(__file__).resolve().parents[2] / "docs" / "data.md"


def test_the_documented_example_works() -> None:
    code = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    assert code is not None
    names: dict[str, Any] = {}
    exec(code[1], names)
    data = names["Squares"](batch_size=64, val_size=100)
    assert isinstance(data, ImageDataModule)
    data.setup()
    assert {name: len(subset) for name, subset in data.subsets.items()} == {"train": 800, "val": 100, "test": 100}
    assert next(iter(data.train_dataloader())).image.shape == (64, *data.image_shape)
