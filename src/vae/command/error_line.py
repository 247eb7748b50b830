"""From an exception to the one line that a user reads."""

import difflib
import os
import re
from collections.abc import Sequence

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError

FULL_ERROR = "HYDRA_FULL_ERROR"
WANTS_TRACEBACK = os.environ.get(FULL_ERROR) == "1"
"""Whether the user has asked for tracebacks in place of lines."""


def error_line(error: BaseException, arguments: Sequence[str], config_name: str = "train") -> str:
    """`error: ` and, in one line that can be printed, what is wrong."""
    return "".join(c if c.isprintable() else "�" for c in _error_line(error, arguments, config_name))


def _error_line(error: BaseException, arguments: Sequence[str], config_name: str) -> str:
    """One line that says what is wrong: the key, the value, and what is allowed.

    Args:
        error: what was raised.
        arguments: the command line, without the program, from which it came.
        config_name: what the command composes.
    """
    chain = _chain(error)
    for link in chain:
        if isinstance(link, ConfigError):
            return f"error: {_flat(link)}"
    hydra_error = next((link for link in chain if isinstance(link, HydraException)), None)
    if hydra_error is not None:
        return f"error: {_composition(hydra_error, chain, arguments, config_name)}"
    root = chain[-1]
    return f"error: {type(root).__name__}: {_flat(root)} (HYDRA_FULL_ERROR=1 shows where)"


def _chain(error: BaseException) -> list[BaseException]:
    """An exception and its causes, outermost first."""
    chain = [error]
    while (cause := chain[-1].__cause__) is not None and cause not in chain:
        chain.append(cause)
    return chain


def _flat(error: BaseException) -> str:
    return " ".join(str(error).split())


def _composition(
    error: HydraException, chain: list[BaseException], arguments: Sequence[str], config_name: str
) -> str:
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read; an override is key=value, with quotes around special characters"
    text = str(error)
    if match := re.match(r"Could not (?:override|append to config|delete from config).*?'([^']+)'", text):
        return _unknown_key(match[1].lstrip("+~"), arguments, config_name)
    if match := re.search(
        r"Could not find '([^']+)/([^'/]+)'\s+Available options in '[^']+':\n((?:\t\S+\n?)+)", text
    ):
        options = match[3].split()
        near = difflib.get_close_matches(match[2], options, 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{match[1]}={match[2]}: must be one of {', '.join(options)}{hint}"
    detail = chain[-1] if chain[-1] is not error else None
    return _flat(error) + (f" ({_flat(detail)})" if detail and _flat(detail) not in _flat(error) else "")


def _unknown_key(key: str, arguments: Sequence[str], config_name: str) -> str:
    """The line for a key that is in no config: what may stand in its place."""
    given = next((a for a in arguments if a.lstrip("+~").split("=")[0] == key), key)
    value = given.partition("=")[2]
    parent, _, leaf = key.rpartition(".")
    siblings = _keys_beside(parent, arguments, config_name)
    if key in siblings:
        return (
            f"{key}={value}: cannot change when a run is resumed: options of a group are chosen when a run begins"
        )
    near = difflib.get_close_matches(leaf, siblings, 1)
    hint = f"; did you mean {'.'.join(filter(None, (parent, near[0])))}?" if near else ""
    where = f"{parent} has" if parent else "there are"
    return f"{key}={value}: no such key{hint} ({where} {', '.join(siblings) or 'none'})"


def _keys_beside(parent: str, arguments: Sequence[str], config_name: str) -> list[str]:
    """The keys of the config node `parent`, with the groups that the command line chose."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    from vae.paths import CONF

    choices = [a for a in arguments if re.fullmatch(r"[a-z_/]+=[a-z_0-9]+", a) and "." not in a]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = compose(config_name, [c for c in choices if (CONF / c.split("=")[0]).is_dir()])
        except HydraException:
            config = compose(config_name)
    node = OmegaConf.select(config, parent) if parent else config
    return [str(key) for key in node if not str(key).startswith("_")] if isinstance(node, DictConfig) else []
