"""Which classes a config may name, so that reading somebody's run cannot run their code.

A list of exact classes, and not a rule: of a library's modules, optimisers and callbacks there is always one more
that loads, imports or opens what its arguments name. Classes of other packages may be named where the reader
trusts the package; what a run says of itself counts for nothing.
"""

import inspect
import os
import re
import site
import sysconfig
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from hydra._internal.utils import _locate  # what `instantiate` itself looks a target up with
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError, is_import_path
from vae.paths import CONF

TRUST = "VAE_TRUST"
"""The environment variable of trusted packages, with commas in between. Ranks and workers inherit it."""
ENTRY_POINTS = "vae.components"
"""Under which an installed package says that its classes may be named: who installs it trusts it."""

_MODULES = tuple(
    f"torch.nn.{name}"
    for name in ("Identity", "Dropout", "ReLU", "LeakyReLU", "ELU", "GELU", "SiLU", "Softplus", "Tanh", "Sigmoid")
)
LIBRARIES: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("corruption", "network", "posterior", "prior", "likelihood"), _MODULES),
    "optimizer": tuple(
        f"torch.optim.{name}"
        for name in (
            *("ASGD", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW", "Adamax"),
            *("Muon", "NAdam", "RAdam", "RMSprop", "Rprop", "SGD"),
        )
    ),
    "scheduler": tuple(
        f"torch.optim.lr_scheduler.{name}"
        for name in (
            *("ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR"),
            *("LinearLR", "MultiStepLR", "OneCycleLR", "PolynomialLR", "StepLR"),
        )
    ),
    "callback": (
        *(
            f"lightning.pytorch.callbacks.{name}"
            for name in (
                *("DeviceStatsMonitor", "EarlyStopping", "EMAWeightAveraging", "GradientAccumulationScheduler"),
                *("LearningRateMonitor", "ModelCheckpoint", "ModelSummary", "RichModelSummary", "RichProgressBar"),
                *("StochasticWeightAveraging", "TQDMProgressBar", "Timer"),
            )
        ),
        # What a sweep gives its jobs.
        "vae.sweep.pruning.Pruning",
    ),
    "pruner": tuple(
        f"optuna.pruners.{name}"
        for name in (
            *("HyperbandPruner", "MedianPruner", "NopPruner", "PatientPruner", "PercentilePruner"),
            *("SuccessiveHalvingPruner", "ThresholdPruner", "WilcoxonPruner"),
        )
    ),
    "sampler": tuple(
        f"optuna.samplers.{name}"
        for name in (
            *("BruteForceSampler", "CmaEsSampler", "GPSampler", "NSGAIIISampler", "NSGAIISampler"),
            *("QMCSampler", "RandomSampler", "TPESampler"),
        )
    ),
}
"""Classes that may be named beside those of conf/. None opens, loads or imports what its arguments say."""

KINDS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("corruption", "network", "posterior", "prior", "likelihood"), ("torch.nn.Module",)),
    "objective": ("torch.nn.Module", "vae.objective.schedule.Linear", "vae.objective.schedule.Cyclical"),
    "data": ("vae.data.image_data.ImageDataModule",),
    "metric": ("torchmetrics.Metric",),
    "callback": ("lightning.pytorch.Callback",),
    "logger": ("lightning.pytorch.loggers.Logger",),
    "optimizer": ("torch.optim.Optimizer",),
    "scheduler": ("torch.optim.lr_scheduler.LRScheduler",),
    "trainer": (
        "lightning.pytorch.strategies.Strategy",
        "lightning.pytorch.plugins.Precision",
        "lightning.pytorch.profilers.Profiler",
    ),
}
"""For each group the classes of whose subclasses a trusted package may bring some."""
CONFIG_DIR, SEARCHPATH = "--config-dir", "hydra.searchpath"
"""The flag that names a folder of configs, and the key that names several."""
SPECIAL = ("_target_", "_partial_", "_convert_", "_recursive_")
"""Keys that mean something to Hydra's `instantiate`. The fifth, _args_, hides what an argument is called."""


@cache
def named(group: str) -> frozenset[str]:
    """Return the classes that may be named in a group: those that conf/ names, and some of libraries."""
    files = (CONF / group).rglob("*.yaml") if group in KINDS else ()
    own = (re.findall(r"^\s*_target_:\s*(\S+)", file.read_text(encoding="utf-8"), re.MULTILINE) for file in files)
    return frozenset(target for targets in own for target in targets).union(LIBRARIES.get(group, ()))


def check_targets(config: Mapping[str, Any], source: object, groups: Mapping[str, str] | None = None) -> None:
    """Refuse a config that names anything but the classes that may be named where it names them.

    Args:
        config: plain nested data.
        source: where it is from, for the message.
        groups: of top-level keys that are not named after their group.

    Raises:
        ConfigError: it names something else, or a function by which Hydra would call what is no class.
    """
    for key, value in values(config):
        leaf, group = key.rpartition(".")[2], re.split(r"[.\[]", key)[0]
        group = (groups or {}).get(group, group)
        if leaf == "_target_" and (why := refusal(value, group)) is not None:
            raise ConfigError(f"{source}: {key}={value!s} is refused: {why}")
        if leaf.startswith("_") and leaf not in SPECIAL:
            raise ConfigError(
                f"{source}: {key} is refused: of keys that begin with _ there are {', '.join(SPECIAL)}"
            )
        if leaf == "features" and isinstance(value, str) and is_import_path(value) and not _is_trusted(value):
            raise ConfigError(
                f"{source}: {key}={value} is refused: it would run the module {value.partition(':')[0]};"
                f" trust=[{_package(value)}] lets the code of {_package(value)} run"
            )


def check_typed(config: DictConfig) -> None:
    """Refuse a composed config of which a run would come that nobody could read, before it is trained.

    Raises:
        ConfigError: see `check_targets`.
    """
    whole = OmegaConf.to_container(config, resolve=True)
    assert isinstance(whole, dict)
    check_targets({str(key): value for key, value in whole.items()}, "the command line")


def values(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of nested containers, at any depth, with its key."""
    if isinstance(node, Mapping):
        for key, value in node.items():
            below = f"{path}.{key}" if path else str(key)
            yield below, value
            yield from values(value, below)
    elif isinstance(node, list | tuple):
        for position, value in enumerate(node):
            yield from values(value, f"{path}[{position}]")


def refusal(target: object, group: str) -> str | None:
    """Why a class may not be named in a group of the config; None if it may."""
    if not isinstance(target, str) or not re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", target, re.ASCII):
        return "it is not the full name of a class"
    if target in named(group):
        return None
    if not (kinds := KINDS.get(group)):
        return "there is nothing here that may be a class"
    package = _package(target)
    if not _is_trusted(target):
        if package == "vae":
            return f"the classes that stand in a {group} config are {', '.join(sorted(named(group)))}"
        return (
            f"it is code of the package {package}, which a config may only name where you trust that package;"
            f" trust=[{package}] does (docs/extending.md)"
        )
    try:
        found = _locate(target)
    except Exception as error:  # it is foreign code, which may raise anything
        return f"it cannot be imported ({' '.join(str(error).split())[:200]})"
    if not inspect.isclass(found) or _package(found.__module__).removeprefix("pytorch_") != package:
        return f"it is no class of {package}"
    if not issubclass(found, tuple(_locate(kind) for kind in kinds)):
        return f"a class in a {group} config must be a {' or a '.join(kinds)}"
    return None


def _package(name: str) -> str:
    return re.split(r"[.:]", name)[0]


def _is_trusted(name: str) -> bool:
    return _package(name) in trusted()


def trusted() -> set[str]:
    """Return the packages that the reader trusts: named on the command line or in VAE_TRUST, or installed as
    such.
    """
    return set(filter(None, os.environ.get(TRUST, "").replace(" ", "").split(","))) | _installed()


@cache
def _installed() -> frozenset[str]:
    """Packages that declare components and were installed: not just laid into a folder that Python searches."""
    homes = [*site.getsitepackages(), site.getusersitepackages(), *sysconfig.get_paths().values()]
    places = {Path(home).resolve() for home in homes}
    return frozenset(
        _package(point.value)
        for point in entry_points(group=ENTRY_POINTS)
        if point.dist is not None and Path(str(point.dist.locate_file(""))).resolve() in places
    )


def typed_folders() -> list[str]:
    """Return the folders in which this command was told to look for configs, too: --config-dir and
    hydra.searchpath.
    """
    sources = HydraConfig.get().runtime.config_sources if HydraConfig.initialized() else ()
    typed = [
        source for source in sources if source.provider in ("command-line", "hydra.searchpath in command-line")
    ]
    return [str(Path(source.path).absolute()) for source in typed if source.schema == "file"]


def remember_folders(folders: Iterable[str]) -> None:
    """Note, for this user alone, folders of configs that he has named: these a sweep may name again."""
    file = _known_folders()
    if file is None or not (new := sorted({*folders} - _read_folders())):
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as known:
            known.writelines(f"{folder}\n" for folder in new)
    except OSError:
        # A machine without a home: there --config-dir is typed again.
        return


def is_known_folder(folder: str) -> bool:
    """Return whether this user has named a folder of configs before. One is as good as code: Hydra runs what
    it names.
    """
    return folder in _read_folders()


def _read_folders() -> set[str]:
    file = _known_folders()
    try:
        return set(file.read_text(encoding="utf-8").splitlines()) if file is not None else set()
    except OSError:
        return set()


def _known_folders() -> Path | None:
    try:
        state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    except RuntimeError:
        return None
    return Path(state) / "vae" / "config_folders"


@contextmanager
def trusting(packages: Iterable[object]) -> Iterator[None]:
    """Inside, and in the processes that start from there, these packages are trusted as well.

    Raises:
        ConfigError: something else than the names of packages.
    """
    if isinstance(packages, str) or not isinstance(packages, Iterable):
        raise ConfigError(f"trust={packages}: must be a list of packages, as in trust=[my_project]")
    names = [str(package) for package in packages]
    for name in names:
        if not name.isidentifier():
            raise ConfigError(f"trust=[{name}]: must be the names of packages, as in trust=[my_project]")
    before = os.environ.get(TRUST)
    if names:
        os.environ[TRUST] = ",".join(dict.fromkeys([*filter(None, (before or "").split(",")), *names]))
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(TRUST, None)
        else:
            os.environ[TRUST] = before
