"""Checks of user input. Each raises one line that names the key, the value and what is allowed."""

import math
import os
import unicodedata
from collections.abc import Iterable

LARGEST = 2**31 - 1
"""The largest whole number that torch accepts everywhere."""

BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that reverse the direction of the text after them."""


class ConfigError(ValueError):
    """The error for a value or a combination that cannot work. The message is one line for the user."""


def check_int(key: str, value: object, minimum: int = 1, maximum: int = LARGEST) -> int:
    """Return `value` if it is a whole number from `minimum` to `maximum`, else raise `ConfigError`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
        raise ConfigError(f"{key}={_short(value)}: must be a whole number of at least {minimum}")
    if value > maximum:
        raise ConfigError(f"{key}={_short(value)}: must be a whole number of at most {maximum}")
    return value


def _short(value: object) -> str:
    """Return at most about 60 characters of a value."""
    try:
        text = str(value)
    except ValueError:  # a whole number of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters)"


def is_text(value: str) -> bool:
    """Return whether a terminal shows a line as it is written.

    Such a line has no control characters, and its text has one direction.
    """
    return all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") and c not in BIDIRECTIONAL for c in value)


def check_memory(what: str, size: float) -> None:
    """Refuse a size that needs more memory than the machine has, before the memory is requested.

    Args:
        what: the key, the value and what needs the memory, for the message.
        size: the least memory needed, in bytes.

    Raises:
        ConfigError: neither this machine nor one of its GPUs has this much memory.
    """
    import torch

    gpus = [torch.cuda.get_device_properties(n).total_memory for n in range(torch.cuda.device_count())]
    there = max([os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), *gpus])
    if size > there:
        raise ConfigError(f"{what} would take {size / 1e9:.3g} GB, and there are {there / 1e9:.3g} GB")


def check_number(
    key: str,
    value: object,
    above: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> float:
    """Return `value` as a float if it is finite and within its bounds, else raise `ConfigError`."""
    bounds = [f"above {above:g}"] if above is not None else []
    bounds += [f"at least {minimum:g}"] if minimum is not None else []
    bounds += [f"at most {maximum:g}"] if maximum is not None else []
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if (
        not good
        or (above is not None and value <= above)  # type: ignore[operator]
        or (minimum is not None and value < minimum)  # type: ignore[operator]
        or (maximum is not None and value > maximum)  # type: ignore[operator]
    ):
        raise ConfigError(f"{key}={_short(value)}: must be a number {' and '.join(bounds)}".rstrip())
    return float(value)  # type: ignore[arg-type]


def check_choice(key: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`, else raise `ConfigError`."""
    allowed = list(allowed)
    if value not in allowed:
        raise ConfigError(f"{key}={_short(value)}: must be one of {', '.join(allowed)}")
    return str(value)


def check_bool(key: str, value: object) -> bool:
    """Return `value` if it is true or false, else raise `ConfigError`."""
    if not isinstance(value, bool):
        raise ConfigError(f"{key}={value}: must be true or false")
    return value


def is_import_path(value: str) -> bool:
    """Return whether this is `<module>:<name>`, so that using it runs that module."""
    module, colon, name = value.partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))
