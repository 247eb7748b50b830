"""Overrides in Hydra's grammar, with values that may contain anything."""

from hydra.core.override_parser.types import Quote, QuotedString


def override(key: str, value: object) -> str:
    """Return `key='value'`, which Hydra reads as exactly this value.

    A path may contain spaces, commas, = and quotes.
    """
    return f"{key}={quoted(value)}"


def quoted(value: object) -> str:
    """Return `'value'`, which Hydra reads as exactly this value, also within a list."""
    return QuotedString(text=str(value), quote=Quote.single).with_quotes()
