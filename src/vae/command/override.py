"""Overrides in Hydra's grammar, with values that may contain anything."""

from collections.abc import Sequence

from hydra.core.override_parser.types import Quote, QuotedString

from vae.run.trust import CONFIG_DIR, SEARCHPATH


def override(key: str, value: object) -> str:
    """Return `key='value'`, which Hydra reads as exactly this value.

    A path may contain spaces, commas, = and quotes.
    """
    return f"{key}={quoted(value)}"


def quoted(value: object) -> str:
    """Return `'value'`, which Hydra reads as exactly this value, also within a list."""
    return QuotedString(text=str(value), quote=Quote.single).with_quotes()


def folder_arguments(folders: Sequence[str]) -> list[str]:
    """Return the arguments by which a command takes its configs from these folders, too, in their order."""
    further = ",".join(quoted(f"file://{folder}") for folder in folders[1:])
    return [
        *(f"{CONFIG_DIR}={folder}" for folder in folders[:1]),
        *([f"{SEARCHPATH}=[{further}]"] if further else []),
    ]
