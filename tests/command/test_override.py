"""What stands in quotes on Hydra's command line is read as what was meant."""

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from vae.command.command import quote_argument
from vae.command.override import override


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc",)), min_size=1))
def test_hydra_reads_what_was_quoted(value: str) -> None:
    (read,) = OverridesParser.create().parse_overrides([override("hydra.run.dir", value)])
    assert (read.get_key_element(), read.value()) == ("hydra.run.dir", value)


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [
        ("run=runs/a=1,b", "run='runs/a=1,b'"),
        ("run=it's", r"run='it\'s'"),
        ("run='runs/a=1,b'", "run='runs/a=1,b'"),
        ("run=", "run=''"),
        ("runs=a,b", "runs=a,b"),
    ],
)
def test_only_the_paths_are_quoted_and_only_once(argument: str, quoted: str) -> None:
    assert quote_argument(["evaluate", argument], "run") == ["evaluate", quoted]


@pytest.mark.parametrize(
    ("argument", "quoted"),
    [
        ("images=[a.png,b.png]", "images=['a.png','b.png']"),
        ("images=[a.png, 'it is.png']", "images=['a.png','it is.png']"),
        ("images=a,b.png", "images='a,b.png'"),
        ("images=[there].png", "images='[there].png'"),
        ("images=[1]", "images='[1]'"),  # a file of that name
    ],
)
def test_a_list_of_paths_is_a_list(
    argument: str, quoted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "[1]").touch()
    monkeypatch.chdir(tmp_path)
    assert quote_argument(["sample", argument], "images", lists=True) == ["sample", quoted]
