"""From an exception to the one line that a user reads."""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae.checks import ConfigError
from vae.paths import CONF

FULL_ERROR = "HYDRA_FULL_ERROR"
WANTS_TRACEBACK = os.environ.get(FULL_ERROR) == "1"
"""Whether the user has asked for tracebacks in place of lines."""


def error_line(error: BaseException, arguments: Sequence[str], config_name: str = "train") -> str:
    """`error: ` and, in one line that can be printed, what is wrong."""
    return "".join(c if c.isprintable() else "�" for c in _error_line(error, arguments, config_name))


def _error_line(error: BaseException, arguments: Sequence[str], config_name: str) -> str:
    """Return one line that says what is wrong: the key, the value, and what is allowed.

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
    if "Config group override must be a string or a list" in str(root):
        for argument in arguments:
            group = argument.lstrip("+~").partition("=")[0]
            if not group:
                return f"error: {argument}: names no key; an override is key=value"
            if _options(group) and not re.search(r"=[\[A-Za-z_]", argument):
                return f"error: {argument}: must be one of {', '.join(_options(group))}"
    if isinstance(root, OSError) and (place := _place(root, arguments)):
        return f"error: {place}: must be a place that can be used ({root.strerror}: {root.filename})"
    if isinstance(root, OmegaConfBaseException) and (typed := [a for a in arguments if "${" in a]):
        return f"error: {typed[0]}: must be a value, or ${{key}} of a key that there is ({_flat(root)})"
    return f"error: {type(root).__name__}: {_flat(root)} (HYDRA_FULL_ERROR=1 shows where)"


def _chain(error: BaseException) -> list[BaseException]:
    """Return an exception and its causes, outermost first."""
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
        return _unreadable(str(error.override), arguments)
    text = str(error)
    if match := re.match(r"Could not (?:override|append to config|delete from config).*?'([^']+)'", text):
        return _unknown_key(match[1].lstrip("+~"), arguments, config_name)
    if match := re.search(
        r"Could not find '([^']+)/([^'/]*)'\s+Available options in '[^']+':\n((?:\t\S+\n?)+)", text
    ):
        options = match[3].split()
        hint = "".join(f"; did you mean {name}?" for name in _similar(match[2], options)[:1])
        return f"{match[1]}={match[2]}: must be one of {', '.join(options)}{hint}"
    if match := re.match(r"Error merging override (.*)", text):
        return f"{match[1]}: must be a value, or ${{key}} of a key that there is ({_flat(chain[-1])})"
    if match := re.search(r"(?:Sweep parameters|Ambiguous value for argument) '(.*?)'(?: requires|\n)", text):
        return f"{match[1]}: must be one value; several make a sweep, with -m"
    if match := re.search(r"Error resolving interpolation '\$\{for_data:\$\{(\w+)\}\}'", text):
        return f"{_given(match[1], arguments)}: must be one of {', '.join(_options(match[1]))}"
    detail = chain[-1] if chain[-1] is not error else None
    return _flat(error) + (f" ({_flat(detail)})" if detail and _flat(detail) not in _flat(error) else "")


def flag_hint(arguments: Sequence[str], config_name: str = "train") -> str:
    """Return where `--latent_size 2` or `--latent_size=2` is among the arguments, how it is typed; else
    nothing.
    """
    for place, argument in enumerate(arguments):
        name, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and len(name) > 1:
            keys = _keys((), config_name)
            for key in (_meant(name, keys) or _like(name.replace("-", "_"), keys))[:1]:
                value = value if equals else next(iter(arguments[place + 1 :]), "…")
                return f"; keys have no dashes: {key}={value}"
    return ""


def _unreadable(argument: str, arguments: Sequence[str]) -> str:
    """Return the line for an argument that is no override: a space too many, or a colon."""
    here = arguments.index(argument) if argument in arguments else len(arguments)
    before, after = list(arguments[:here]), list(arguments[here + 1 :])
    key, colon, value = argument.partition(":")
    if "=" not in argument and after and after[0].startswith("="):
        given = [argument, *after[: 2 if after[0] == "=" else 1]]
        return f"{' '.join(given)}: there are no spaces around =, as in {''.join(given)}"
    if before and before[-1].endswith("="):
        return f"{before[-1]} {argument}: there are no spaces around =, as in {before[-1]}{argument}"
    if argument.count("[") > argument.count("]"):
        until = next((n for n, each in enumerate(after, 1) if each.endswith("]")), len(after))
        given = [argument, *after[:until]]
        return f"{' '.join(given)}: there are no spaces in a list, as in '{''.join(given)}'"
    if before and before[-1].startswith("-"):
        return f"{before[-1]} {argument}: keys have no dashes: {before[-1].lstrip('-')}={argument}"
    if "=" not in argument and colon:
        return f"{argument}: an override is key=value, as in {key}={value}"
    if re.fullmatch(r"[A-Za-z_.]+", argument) and after and "=" not in after[0]:
        return f"{argument} {after[0]}: an override is key=value, as in {argument}={after[0]}"
    return f"{argument}: cannot be read; an override is key=value, with quotes around special characters"


def _place(error: OSError, arguments: Sequence[str]) -> str | None:
    """Return the argument that says where a file or folder is that cannot be used."""
    for argument in arguments:
        value = argument.partition("=")[2].strip("'\"")
        if value and str(error.filename).startswith(value):
            return argument
    return None


def _given(key: str, arguments: Sequence[str]) -> str:
    """Return what was typed of a key."""
    return next((a for a in arguments if a.lstrip("+~").split("=")[0] == key), key)


def _options(group: str) -> list[str]:
    """Return the options of a group of conf/."""
    return sorted(file.stem for file in (CONF / group).glob("*.yaml"))


def _unknown_key(key: str, arguments: Sequence[str], config_name: str) -> str:
    """Return the line for a key that is in no config: what may stand in its place."""
    value = _given(key, arguments).partition("=")[2]
    parent, _, leaf = key.rpartition(".")
    keys = _keys(arguments, config_name)
    siblings = [each.removeprefix(f"{parent}.") for each in keys if each.rpartition(".")[0] == parent]
    if key in keys:
        return (
            f"{key}={value}: cannot change when a run is resumed: options of a group are chosen when a run begins"
        )
    owners = _options_with(parent, leaf)
    meant = _meant(key, keys) or ([] if owners else _like(key, keys))
    hints = [f"; did you mean {' or '.join(f'{name}={value}' if value else name for name in meant)}?"] * bool(
        meant
    )
    hints += [f"; {parent}={' or '.join(owners)} has {leaf}"] * bool(owners)
    if siblings and (parent or not meant):
        hints.append(f" ({f'{parent} has' if parent else 'there are'} {', '.join(siblings)})")
    elif not hints and parent.startswith("hydra"):
        hints.append(f"; +{key}={value} adds it")
    elif not hints:
        hints.append(f" ({parent} has none)")
    return f"{key}={value}: no such key{''.join(hints)}"


WORDS = {"learning_rate": "optimizer.lr", "epochs": "trainer.max_epochs", "gpus": "trainer.devices"}
"""What other programs call a key."""


def _meant(key: str, keys: Sequence[str]) -> list[str]:
    """Return the keys, of all that there are, that end as a key which there is not."""
    parent, _, leaf = key.rpartition(".")
    plain = key.lower().replace("-", "_")
    if same := [each for each in keys if each == plain or each == WORDS.get(plain)]:
        return same
    # sigma: likelihood.sigma. Of objective.k and metric.test.nll.k the one less deep.
    ends = [each for each in keys if each.endswith(f".{plain}")]
    # likelihood.sigma, where σ is learned: likelihood.init_sigma.
    longer = [each for each in keys if each.rpartition(".")[0] == parent and each.endswith(f"_{leaf}")]
    return [each for each in ends if each.count(".") == ends[0].count(".")][:3] or longer[:1]


def _like(key: str, keys: Sequence[str]) -> list[str]:
    """Return the key that is most like one that there is not: beside it, else anywhere."""
    parent, _, leaf = key.rpartition(".")
    beside = {each.rpartition(".")[2]: each for each in keys if each.rpartition(".")[0] == parent}
    leaves = {each.rpartition(".")[2]: each for each in reversed(keys)}
    tries = [(leaf, beside), (key, {each: each for each in keys}), (leaf, leaves)]
    for word, names in tries[:1] if parent and beside else tries:
        if near := _similar(word, list(names)):
            return [names[near[0]]]
    return []


def _similar(word: str, names: Sequence[str]) -> list[str]:
    """Return the names like a word, the most similar first, whatever their case."""
    plain = {name.lower(): name for name in names}
    return [plain[name] for name in difflib.get_close_matches(word.lower(), list(plain), 3)]


def _options_with(group: str, key: str) -> list[str]:
    """Return the options of a group whose files have a key, at most three."""
    of_group = [file for name, file in _group_files() if name == group.replace(".", "/")]
    has = re.compile(rf"^{re.escape(key)}:", re.MULTILINE)
    return [file.stem for file in of_group if has.search(file.read_text(encoding="utf-8"))][:3]


def _group_files() -> list[tuple[str, Path]]:
    """Return each file of a group of conf/, after the group's name."""
    return [(file.parent.relative_to(CONF).as_posix(), file) for file in sorted(CONF.glob("*/**/*.yaml"))]


def _keys(arguments: Sequence[str], config_name: str) -> list[str]:
    """Return all keys of the config with the groups that the command line chose: the outer ones first, in
    their order.
    """
    groups = {name for name, _ in _group_files()}
    return _composed_keys(
        tuple(a for a in arguments if re.match(r"[a-z_/]+=", a) and a.split("=")[0] in groups), config_name
    )


@cache
def _composed_keys(choices: tuple[str, ...], config_name: str) -> list[str]:
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        try:
            config = compose(config_name, list(choices))
        except HydraException:
            config = compose(config_name)
    return sorted(_paths(config), key=lambda path: path.count("."))


def _paths(node: DictConfig, above: str = "") -> Iterator[str]:
    """Yield the keys of a node and of all below it, but not what images suggest (`suits`) to the same keys."""
    for name in map(str, node):
        if not name.startswith("_") and name not in ("suits", "for_data", "hydra"):
            yield above + name
            # What interpolations stand for is not asked, which only a run can say.
            if not OmegaConf.is_interpolation(node, name) and OmegaConf.is_dict(node[name]):
                yield from _paths(node[name], f"{above}{name}.")
