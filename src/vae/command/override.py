"""Overrides in the grammar of Hydra, with values that may hold anything."""

from hydra.core.override_parser.types import Quote, QuotedString


def override(key: str, value: object) -> str:
    """`key='value'`, which Hydra reads as this very value: a path may hold spaces, commas, = and quotes."""
    return f"{key}={QuotedString(text=str(value), quote=Quote.single).with_quotes()}"
