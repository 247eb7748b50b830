"""Which objects the saved config of a run may name: loading somebody's run must not run their code.

Hydra (1.3.8) refuses some known dangerous targets by itself. Here, on the contrary, only what a run is made
of is let through: classes, and of the libraries only those of the kinds that stand in a config.
"""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from hydra._internal.utils import _locate  # what `instantiate` itself looks a target up with
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError
from vae.feature.network import is_import_path

PROJECT = "vae"
KINDS: dict[str, tuple[str, ...]] = {
    "torch": ("torch.nn.Module", "torch.optim.Optimizer", "torch.optim.lr_scheduler.LRScheduler"),
    "torchvision": ("torch.nn.Module",),
    "torchmetrics": ("torchmetrics.Metric",),
    "zuko": ("torch.nn.Module",),
    "lightning": (
        "lightning.pytorch.Trainer",
        "lightning.pytorch.Callback",
        "lightning.pytorch.loggers.Logger",
        "lightning.pytorch.strategies.Strategy",
        "lightning.pytorch.plugins.Precision",
        "lightning.pytorch.profilers.Profiler",
    ),
}
"""For each library, the classes of whose subclasses a config may ask."""
SWEEPER_KINDS = KINDS | {"optuna": ("optuna.pruners.BasePruner", "optuna.samplers.BaseSampler")}
"""The same for the arguments of a sweep."""


def check_targets(config: DictConfig, source: object) -> None:
    """Refuse a config that names anything but classes of the project and of the libraries it is built on.

    Args:
        config: a saved config.
        source: where it is from, for the message.

    Raises:
        ConfigError: it names something else.
    """
    for key in ("defaults", "hydra"):
        if key in config:
            raise ConfigError(
                f"{source}: {key} is refused: a run's config is complete, with nothing by which Hydra would read"
                " or run something else"
            )
    for key, target in _targets(OmegaConf.to_container(config, resolve=False)):
        if not is_allowed(target):
            raise ConfigError(
                f"{source}: {key}={target!s} is refused: a run may only name classes of"
                f" {', '.join([PROJECT, *KINDS])}, so that loading it cannot run foreign code"
            )
    for key, value in _values(OmegaConf.to_container(config, resolve=False)):
        if key.endswith("features") and isinstance(value, str) and is_import_path(value):
            raise ConfigError(
                f"{source}: {key}={value} is refused: what a run's config names must not run foreign code; give"
                " features=<module>:<name> to python -m vae.evaluate"
            )


def check_arguments(arguments: Iterable[str], source: object) -> None:
    """Refuse saved arguments of a command that name foreign code, or other configs than the project's.

    Args:
        arguments: of a sweep's command, as its folder has them.
        source: where they are from, for the message.

    Raises:
        ConfigError: there is such an argument.
    """
    for argument in arguments:
        if not isinstance(argument, str) or argument.startswith("-") or "searchpath" in argument:
            raise ConfigError(f"{source}: the argument {argument!s} is refused: it may be about other files")
        named = re.findall(r"_target_['\"]?\s*[=:]\s*['\"]?([^,}'\"\s]*)", argument)
        if refused := [target for target in named if not is_allowed(target, SWEEPER_KINDS)]:
            raise ConfigError(f"{source}: the argument {argument} is refused: {refused[0]} may be foreign code")


def _targets(config: Any) -> Iterator[tuple[str, Any]]:
    """Every `_target_` of a config, with its key."""
    return ((key, value) for key, value in _values(config) if key.rpartition(".")[2] == "_target_")


def _values(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a config, at any depth, with its key."""
    if isinstance(node, dict):
        for key, value in node.items():
            below = f"{path}.{key}" if path else str(key)
            yield below, value
            yield from _values(value, below)
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from _values(value, f"{path}[{position}]")


def is_allowed(target: object, kinds: Mapping[str, Sequence[str]] = KINDS) -> bool:
    """Whether `target` is the full name of a class that a config may ask for, or of nothing at all."""
    if not isinstance(target, str):
        return False
    library = target.partition(".")[0]
    if library != PROJECT and library not in kinds:
        return False
    try:
        found = _locate(target)
    except Exception:
        # What is not there (as in a run of another version) cannot be run; instantiating says so if need be.
        return True
    # The class must come from that library: `vae.run.files.os.system` or `torch.hub.Path` are reached through
    # it, but come from elsewhere.
    if not inspect.isclass(found) or found.__module__.partition(".")[0] not in (library, f"pytorch_{library}"):
        return False
    return library == PROJECT or issubclass(found, tuple(_locate(kind) for kind in kinds[library]))
