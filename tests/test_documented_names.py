"""What the docs name is there: links and their headings, tests, modules, classes and functions."""

import importlib
import re
from pathlib import Path

import pytest

from vae.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
TESTS = {path: path.read_text() for path in sorted((ROOT / "tests").rglob("*.py"))}


def anchors(page: Path) -> set[str]:
    """The names of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", h).lower()).replace(" ", "-")
        for h in headings
    }


def is_there(name: str) -> bool:
    """Whether a dotted name is a module or what stands in one."""
    module, rest = name, list[str]()
    while "." in module:
        try:
            found: object = importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, last = module.rpartition(".")
            rest.insert(0, last)
            continue
        for attribute in rest:
            if not hasattr(found, attribute):
                return attribute in getattr(found, "__annotations__", {})
            found = getattr(found, attribute)
        return True
    return not rest or hasattr(importlib.import_module(module), rest[0])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" in target:
            continue
        file, _, heading = target.partition("#")
        path = (page.parent / file).resolve() if file else page
        assert path.exists(), f"{page.name}: {target}"
        assert not heading or heading in anchors(path), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_tests_are_there(page: Path) -> None:
    text = page.read_text()
    for file in re.findall(r"tests/[\w/]+\.py", text):
        assert (ROOT / file).is_file(), f"{page.name}: {file}"
    for name in re.findall(r"`(test_\w+)`", text):
        assert any(f"def {name}(" in code for code in TESTS.values()), f"{page.name}: {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_named_code_is_there(page: Path) -> None:
    # vae.components is what an entry point of other packages is called.
    for name in set(re.findall(r"`(vae(?:\.\w+)+)`", page.read_text())) - {"vae.components"}:
        assert is_there(name), f"{page.name}: {name}"
