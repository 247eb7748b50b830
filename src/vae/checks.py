"""Checks of user input. Each raises one line that names the key, the value and what is allowed.

`Kind` and its subclasses say what a value may be, and in which words; vae.command.keys has that of every key.
"""

import os
import re
import sys
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

LARGEST = 2**31 - 1
"""The largest whole number that torch accepts everywhere."""

LARGEST_FLOAT = sys.float_info.max

BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that reverse the direction of the text after them."""


class ConfigError(ValueError):
    """The error for a value or a combination that cannot work. The message is one line for the user."""


def is_text(value: str) -> bool:
    """Return whether a terminal shows a line as it is written.

    Such a line has no control characters, and its text has one direction.
    """
    return all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") and c not in BIDIRECTIONAL for c in value)


def is_import_path(value: str) -> bool:
    """Return whether this is `<module>:<name>`, so that using it runs that module."""
    module, colon, name = value.partition(":")
    return bool(colon) and name.isidentifier() and all(part.isidentifier() for part in module.split("."))


class Kind(ABC):
    """What a value may be. `a | b` is what is of one of both kinds."""

    @property
    @abstractmethod
    def allowed(self) -> str:
        """What is allowed, in words that follow `must be`."""

    @abstractmethod
    def accepts(self, value: object) -> bool:
        """Return whether a plain value is allowed."""

    def check(self, key: str, value: object) -> None:
        """Refuse what is not of this kind.

        Raises:
            ConfigError: it names the key, the value and what is allowed.
        """
        if not self.accepts(value):
            raise ConfigError(f"{key}={written(value)}: must be {self.allowed}")

    def __or__(self, other: "Kind") -> "Either":
        return Either((*parts(self), *parts(other)))


def parts(kind: Kind) -> "tuple[Kind, ...]":
    """Return the kinds of which a value may be of any."""
    return kind.kinds if isinstance(kind, Either) else (kind,)


def written(value: object) -> str:
    """Return a value as one would type it, of which at most about 60 characters."""
    match value:
        case None:
            text = "null"
        case bool():
            text = str(value).lower()
        case int() if value.bit_length() > 10_000:
            text = "a number of thousands of digits"
        case list():
            text = f"[{','.join(written(each) for each in value[:20])}{',…' if len(value) > 20 else ''}]"
        case dict():
            text = f"{{{', '.join(f'{key}: {written(each)}' for key, each in value.items())}}}"
        case _:
            text = str(value)
    return text if len(text) <= 60 else f"{text[:40]}… ({len(text)} characters)"


@dataclass(frozen=True)
class Either(Kind):
    """What is of one of several kinds."""

    kinds: tuple[Kind, ...]

    @property
    def allowed(self) -> str:
        *first, last = dict.fromkeys(kind.allowed for kind in self.kinds)
        return f"{', '.join(first)} or {last}" if first else last

    def accepts(self, value: object) -> bool:
        return any(kind.accepts(value) for kind in self.kinds)


@dataclass(frozen=True)
class Whole(Kind):
    """A whole number within bounds."""

    minimum: int = 1
    maximum: int = LARGEST

    @property
    def allowed(self) -> str:
        if self.maximum == LARGEST:
            return f"a whole number of at least {self.minimum}"
        return f"a whole number from {self.minimum} to {self.maximum}"

    def accepts(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.minimum <= value <= self.maximum

    def check(self, key: str, value: object) -> None:
        if isinstance(value, int) and not isinstance(value, bool) and value > self.maximum:
            raise ConfigError(f"{key}={written(value)}: must be a whole number of at most {self.maximum}")
        super().check(key, value)


@dataclass(frozen=True)
class Number(Kind):
    """A finite number within bounds."""

    above: float | None = None
    minimum: float | None = None
    below: float | None = None
    maximum: float | None = None

    @property
    def allowed(self) -> str:
        words = {"above": self.above, "of at least": self.minimum, "below": self.below, "at most": self.maximum}
        bounds = [f"{word} {bound:g}" for word, bound in words.items() if bound is not None]
        return f"a number {' and '.join(bounds)}".rstrip()

    def accepts(self, value: object) -> bool:
        return (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and abs(value) <= LARGEST_FLOAT
            and (self.above is None or value > self.above)
            and (self.minimum is None or value >= self.minimum)
            and (self.below is None or value < self.below)
            and (self.maximum is None or value <= self.maximum)
        )


@dataclass(frozen=True)
class Choice(Kind):
    """One of some values: words, null, true, false or single numbers."""

    values: tuple[Any, ...]
    note: str = ""

    @property
    def allowed(self) -> str:
        words = [written(value) for value in self.values]
        several = len(words) > 2 or (len(words) == 2 and isinstance(self.values[0], str))
        names = f"one of {', '.join(words)}" if several else " or ".join(words)
        return f"{names} ({self.note})" if self.note else names

    def accepts(self, value: object) -> bool:
        return any(type(value) is type(each) and value == each for each in self.values)


def one_of(*values: Any, note: str = "") -> Choice:
    """Return the kind of these values; a note says more about them."""
    return Choice(values, note)


NULL = one_of(None)
TRUE_OR_FALSE = one_of(True, False)


@dataclass(frozen=True)
class Text(Kind):
    """Text of one character or more, which a terminal shows as it is written, and a regular expression allows."""

    allowed: str = "text"
    pattern: str = ".+"

    def accepts(self, value: object) -> bool:
        return isinstance(value, str) and is_text(value) and re.fullmatch(self.pattern, value) is not None


@dataclass(frozen=True)
class ListOf(Kind):
    """A list of values of one kind: of `length`, or of any number from `least` on."""

    kind: Kind
    length: int | None = None
    least: int = 0

    @property
    def allowed(self) -> str:
        count = f" of {self.length}" if self.length else " of one or more" if self.least else ""
        return f"a list{count} in brackets, each {self.kind.allowed}"

    def accepts(self, value: object) -> bool:
        return (
            isinstance(value, Sequence)
            and not isinstance(value, str)
            and (self.length is None or len(value) == self.length)
            and len(value) >= self.least
            and all(self.kind.accepts(each) for each in value)
        )


@dataclass(frozen=True)
class Several(Kind):
    """One value of a kind, or a list of one or more."""

    kind: Kind

    @property
    def allowed(self) -> str:
        return f"{self.kind.allowed}, or a list of such in brackets"

    def accepts(self, value: object) -> bool:
        return self.kind.accepts(value) or ListOf(self.kind, least=1).accepts(value)

    def check(self, key: str, value: object) -> None:
        # The line names the one that is wrong, as it does of a single one.
        for each in value if isinstance(value, list) and value else [value]:
            self.kind.check(key, each)


def check_int(key: str, value: object, minimum: int = 1, maximum: int = LARGEST) -> int:
    """Return `value` if it is a whole number from `minimum` to `maximum`, else raise `ConfigError`."""
    Whole(minimum, maximum).check(key, value)
    return value  # type: ignore[return-value]


def check_number(
    key: str,
    value: object,
    above: float | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
) -> float:
    """Return `value` as a float if it is finite and within its bounds, else raise `ConfigError`."""
    Number(above, minimum, maximum=maximum).check(key, value)
    return float(value)  # type: ignore[arg-type]


def check_choice(key: str, value: object, allowed: Iterable[str]) -> str:
    """Return `value` if it is one of `allowed`, else raise `ConfigError`."""
    Choice(tuple(allowed)).check(key, value)
    return str(value)


def check_bool(key: str, value: object) -> bool:
    """Return `value` if it is true or false, else raise `ConfigError`."""
    TRUE_OR_FALSE.check(key, value)
    return bool(value)


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
