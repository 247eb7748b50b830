"""The check of a composed config against vae.command.keys, before torch is imported and anything is written."""

import difflib
import os
from collections.abc import Iterable, Mapping
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae.checks import NULL, ConfigError, Kind, ListOf, Several, parts, written
from vae.command.keys import ARGUMENTS, COMMANDS, FURTHER, REFUSED, Component, Group, Members, Network, Place
from vae.command.signature import Signature, signature
from vae.paths import CONF
from vae.run.trust import SPECIAL, refusal, trusting

NONE = Signature({}, frozenset(), takes_any=True)
"""That of a class whose source cannot be read."""


def check_composed(config: DictConfig, command: str) -> None:
    """Refuse a value that a key may not have, a key that nothing reads, and the lack of one that is read.

    Interpolations are resolved to be checked, and stay. A `~` at the beginning of a path becomes a home.

    Args:
        config: as composed, with Hydra's own part or without.
        command: whose config it is, as in `COMMANDS`.

    Raises:
        ConfigError: the first thing that is wrong.
    """
    if "trust" in config:
        check_part(config, "trust", command)
    with trusting(config.get("trust") or ()):
        # What was typed comes before what follows it, so that the line names the former.
        for follows in (False, True):
            _check_keys(config, COMMANDS[command], "", follows)


def check_part(config: DictConfig, key: str, command: str) -> None:
    """As `check_composed`, of one key at the top and all below it."""
    _check(config, key, COMMANDS[command].keys[key], key, None)


def _check(parent: DictConfig, key: str, kind: Kind, name: str, follows: bool | None) -> None:
    """Check one value: a literal one, one that follows another key, or for None either."""
    is_link = OmegaConf.is_interpolation(parent, key)
    if is_link and follows is False:
        return
    value = _resolved(parent, key, kind, name)
    container = next((part for part in parts(kind) if isinstance(part, CONTAINERS)), None)
    if container is not None and isinstance(value, DictConfig):
        _check_keys(value, container, name, None if is_link else follows)
    elif is_link or not follows:
        plain = (
            OmegaConf.to_container(value, resolve=True) if isinstance(value, DictConfig | ListConfig) else value
        )
        kind.check(name, plain)
        if _is_place(kind) and (there := _at_home(plain)) != plain:
            parent[key] = there


CONTAINERS = (Group, Members, Component, Network)


def _resolved(parent: DictConfig, key: str, kind: Kind, name: str) -> Any:
    try:
        value = parent[key]
        if isinstance(value, ListConfig):
            OmegaConf.to_container(value, resolve=True)
        return value
    except (OmegaConfBaseException, RecursionError, ValueError) as error:
        raw = OmegaConf.to_container(parent, resolve=False)[key]  # type: ignore[call-overload, index]
        why = "it is not given" if raw == "???" else f"it cannot be resolved: {' '.join(str(error).split())[:200]}"
        raise ConfigError(f"{name}={written(raw)}: must be {kind.allowed} ({why})") from error


def _is_place(kind: Kind) -> bool:
    return any(
        isinstance(part.kind if isinstance(part, ListOf | Several) else part, Place) for part in parts(kind)
    )


def _at_home(value: Any) -> Any:
    """Return a path, or a list of paths, with ~ and ~user as the shell has it."""
    if isinstance(value, list):
        return [_at_home(each) for each in value]
    return os.path.expanduser(value) if isinstance(value, str) else value


def _check_keys(node: DictConfig, container: Kind, name: str, follows: bool | None) -> None:
    """Check a group, an object or a network: its keys, and what they are."""
    kinds, required, is_open = _kinds(node, container, name)
    if not follows:
        for key in required:
            if key not in node:
                raise _missing(_join(name, key), kinds.get(key))
    for key in map(str, node):
        kind = kinds.get(key)
        if kind is not None:
            _check(node, key, kind, _join(name, key), follows)
        elif not follows and key not in kinds and not is_open and not (key == "hydra" and not name):
            raise _unknown(node, key, _join(name, key), kinds)


def _kinds(node: DictConfig, container: Kind, name: str) -> tuple[Mapping[str, Kind | None], Iterable[str], bool]:
    """Return the kind of each key that a node may have, None for any; the keys it must have; whether others
    may be.
    """
    match container:
        case Group(keys, further, is_open):
            return {**keys, **(further or {})}, keys, is_open
        case Members(kind):
            return dict.fromkeys(map(str, node), kind), (), False
        case Network(encoder, decoder):
            networks = {"encoder": encoder, "decoder": decoder}
            arguments: dict[str, Kind | None] = {}
            is_open = False
            for key, part in networks.items():
                if isinstance(node.get(key), DictConfig) and isinstance(node[key].get("_target_"), str):
                    found, _, opens = _arguments(node[key], part, _join(name, key))
                    arguments |= {argument: kind for argument, kind in found.items() if argument not in SPECIAL}
                    # Of a network of one's own nothing is known of how its config is written.
                    is_open |= opens or node[key]["_target_"] not in ARGUMENTS
            return arguments | networks, networks, is_open
        case Component():
            return _arguments(node, container, name)
    raise TypeError(container)


def _arguments(
    node: DictConfig, component: Component, name: str
) -> tuple[dict[str, Kind | None], Iterable[str], bool]:
    """As `_kinds`, of an object."""
    if not node and component.may_be_empty:
        return {}, (), False
    target = component.target or _target(node, component, name)
    partial = node.get("_partial_", False)
    if partial is not component.is_partial:
        raise ConfigError(
            f"{name}._partial_={written(partial)}: must be {written(component.is_partial)} in this group"
        )
    described = {**ARGUMENTS.get(target, {}), **FURTHER.get(target, {})}
    expected = {*ARGUMENTS.get(target, ())}
    there = {str(key) for key in node} - {*SPECIAL}
    takes = Signature({}, frozenset())
    if target not in ARGUMENTS or there - described.keys() or expected - there:
        takes = signature(target) or NONE
    kinds = {key: kind for key, kind in {**takes.arguments, **described}.items() if key not in component.given}
    kinds |= {key: NULL | kind for key in component.filled if (kind := kinds.get(key)) is not None}
    required = [*(takes.required - {*component.given}), *component.required]
    kinds |= dict.fromkeys(SPECIAL)
    return kinds, required, takes.takes_any and target not in ARGUMENTS


def _target(node: DictConfig, component: Component, name: str) -> str:
    """Return the class of an object, which may be named there."""
    target = node.get("_target_")
    if target is None:
        raise ConfigError(
            f"{name}._target_=null: must be the full name of a class, as {name} must be {component.allowed}"
        )
    if target in REFUSED:
        raise ConfigError(f"{name}._target_={target}: must be {REFUSED[target]}")
    if (why := refusal(target, component.group)) is not None:
        raise ConfigError(f"{name}._target_={written(target)}: is refused: {why} (it must be {component.allowed})")
    return str(target)


def _join(name: str, key: str) -> str:
    return f"{name}.{key}" if name else key


def _missing(name: str, kind: Kind | None) -> ConfigError:
    options = sorted(file.stem for file in (CONF / name.replace(".", "/")).glob("*.yaml"))
    if options:
        return ConfigError(f"{name}=null: must be one of {', '.join(options)}")
    return ConfigError(f"{name}: must be given{f', as {kind.allowed}' if kind else ''}")


def _unknown(node: DictConfig, key: str, name: str, kinds: Mapping[str, Kind | None]) -> ConfigError:
    parent = name.rpartition(".")[0]
    value: Any = OmegaConf.to_container(node, resolve=False)[key]  # type: ignore[call-overload, index]
    while isinstance(value, dict) and value:
        below, value = next(iter(value.items()))
        name = f"{name}.{below}"
    known = sorted(name for name in kinds if not name.startswith("_"))
    near = difflib.get_close_matches(key, known, 1)
    hint = f"; did you mean {_join(parent, near[0])}?" if near else ""
    where = f"{parent} has" if parent else "there are"
    return ConfigError(f"{name}={written(value)}: no such key{hint} ({where} {', '.join(known) or 'none'})")
