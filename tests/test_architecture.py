"""The house: rooms whose imports go one way, and a training step that is read in a few files."""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from vae.paths import ROOT
from vae.training.build import build_module, build_trainer

SOURCES = ROOT / "src" / "vae"
COMPONENTS = {"network", "posterior", "prior", "likelihood", "objective", "corruption"}
FLOORS = [
    {"checks", "random", "paths", "internals", "progress"},
    {"run", "bound", "causal"},
    {"command"} | COMPONENTS,
    {"model"},
    {"data"},
    {"feature", "picture"},
    {"metric"},
    {"page"},
    {"logger"},
    {"callback"},
    {"training"},
    {"trained"},
    {"evaluation", "generation"},
    {"sweep"},
    {"reproduction", "baselines"},
    {"train", "evaluate", "sample", "features", "reproduce", "new", "table", "diff", "export"},
    {"vae"},
]
"""From the ground up: a room imports from those below it."""


def imports(path: Path) -> Iterator[str]:
    """The modules of the project that a file imports anywhere, as rooms and names below `vae`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "vae":
            name = node.module.partition(".")[2]
            yield from [name] if name else [alias.name for alias in node.names]


def room(path: Path) -> str:
    """The folder of a file below src/vae, or its own name at the root."""
    parts = path.relative_to(SOURCES).with_suffix("").parts
    return "vae" if parts == ("__init__",) else parts[0]


def test_imports_go_one_way() -> None:
    floor = {name: number for number, names in enumerate(FLOORS) for name in names}
    wrong = [
        f"{path.relative_to(SOURCES)} imports {name}"
        for path in sorted(SOURCES.rglob("*.py"))
        for name in imports(path)
        if (there := name.split(".")[0]) != room(path) and floor[there] >= floor[room(path)]
    ]
    assert wrong == []


def test_no_files_import_one_another_in_a_circle() -> None:
    def module(path: Path) -> str:
        return ".".join(path.relative_to(SOURCES).with_suffix("").parts).removesuffix(".__init__")

    edges = {module(path): set(imports(path)) - {module(path)} for path in SOURCES.rglob("*.py")}

    def reached(start: str) -> set[str]:
        seen, ahead = set[str](), list(edges[start])
        while ahead:
            if (name := ahead.pop()) not in seen and name in edges:
                seen.add(name)
                ahead += edges[name]
        return seen

    assert [name for name in edges if name in reached(name)] == []


def test_the_root_has_a_dozen_modules() -> None:
    assert len(list(SOURCES.glob("*.py"))) <= 12


def test_a_default_step_is_read_in_eight_files(composed: Callable[..., DictConfig]) -> None:
    config = composed("trainer.accelerator=cpu", "steps_at_once=1", "logger=none", "callback=none")
    OmegaConf.resolve(config)
    data = instantiate(config.data)
    module = build_module(config, data)
    trainer = build_trainer(config)
    module.trainer = trainer
    data.setup()
    batch = data.ready(next(iter(data.train_dataloader())))
    files = set[str]()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(SOURCES)):
            files.add(str(Path(frame.f_code.co_filename).relative_to(SOURCES)))

    sys.setprofile(note)
    try:
        loss = module.training_step(batch, 0)
    finally:
        sys.setprofile(None)
    assert torch.isfinite(loss)
    assert files == {
        "training/module.py",
        "model.py",
        "network/mlp.py",
        "posterior/diagonal_gaussian.py",
        "prior/standard_normal.py",
        "likelihood/gaussian.py",
        "objective/elbo.py",
        "bound/terms.py",
    }
