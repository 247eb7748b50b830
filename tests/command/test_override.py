"""What stands in quotes on Hydra's command line is read as what was meant."""

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
