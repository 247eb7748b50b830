"""What somebody's run or sweep may say: plain data, read without resolving, importing or opening anything.

Three steps, each stricter. Whatever is read is plain and short (`read_plain`). What is evaluated names only
classes that may be named (`vae.run.trust`). What is resumed, so that it writes files and starts loggers, says
besides only what is on a short list; its places are those of its reader (`resumed`, `check_arguments`).
"""

import math
import os
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path, PurePath
from typing import Any

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Override, QuotedString, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae.checks import ConfigError, is_text
from vae.paths import CONF
from vae.run.files import read_json
from vae.run.trust import CONFIG_DIR, KINDS, SEARCHPATH, check_targets, is_known_folder, values

LARGEST = 1 << 18
"""Bytes of a config. The largest of the project's own has 8,000."""
MOST = 20_000
"""Values in a file."""
LONGEST = 10_000
"""Characters of a value."""
PLACES = ("dirpath", "folder", "run", "path", "save_dir", "default_root_dir")
"""Arguments of callbacks, loggers and the trainer that say where files are written."""
TRAINER = frozenset(
    (
        *("_target_", "accelerator", "accumulate_grad_batches", "benchmark", "check_val_every_n_epoch"),
        *(
            "default_root_dir",
            "detect_anomaly",
            "deterministic",
            "devices",
            "enable_model_summary",
            "fast_dev_run",
        ),
        *("gradient_clip_algorithm", "gradient_clip_val", "inference_mode", "limit_test_batches"),
        *("limit_train_batches", "limit_val_batches", "log_every_n_steps", "max_epochs", "max_steps", "max_time"),
        *("min_epochs", "min_steps", "num_nodes", "num_sanity_val_steps", "overfit_batches", "precision"),
        *("profiler", "strategy", "sync_batchnorm", "use_distributed_sampler", "val_check_interval"),
    )
)
"""Options of the trainer that a saved run may set."""
LOGGERS = {
    "csv": frozenset(("_target_", "path")),
    "wandb": frozenset(
        (
            *("_target_", "project", "name", "save_dir", "mode", "id", "resume", "group", "job_type", "tags"),
            *("settings", "settings.silent"),
        )
    ),
    "tensorboard": frozenset(("_target_", "folder")),
    "mlflow": frozenset(("_target_", "experiment_name", "run_name", "id", "tags")),
}
"""Loggers that a saved run may have, and what it may say of them; not where they send what they log."""
HYDRA = re.compile(
    r"hydra/(launcher|sweeper)|hydra\.mode"
    r"|hydra\.launcher\.(n_jobs|members|processes|batch_size|timeout_min|cpus_per_task|mem_gb|verbose)"
    r"|hydra\.launcher\.ray\.(init|remote)\.(num_cpus|num_gpus)"
    r"|hydra\.sweeper\.(n_trials|n_jobs|seed|objectives|max_batch_size)"
)
"""Keys of Hydra's that the saved arguments of a sweep may set: how many jobs, and how many at once."""
MLFLOW = "logger.mlflow.tracking_uri"
PASSED_OVER = re.compile(rf"hydra\.(run|sweep)\.\w+|paths\.(cache|weights)|trust|open|{re.escape(MLFLOW)}")
"""Saved arguments that the reader has an own answer to."""
PART = re.compile(r"hydra\.sweeper\.(sampler|pruner)(\..+)?")
"""Keys of what an adaptive sweep is made of, and the arguments of these."""


def read_plain(path: Path) -> dict[str, Any]:
    """Return a YAML file that holds an object, as plain nested data.

    Raises:
        ConfigError: it is damaged, too large, or holds something else than plain data.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ConfigError(f"{path}: not a config (it has more than {LARGEST:,} bytes)")
        text = content.decode("utf-8")
        # A few aliases of aliases stand for more than fits into memory, and no config is saved with any.
        if re.search(r"[*&]\w", text) and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):
            raise ConfigError(f"{path}: is refused: it has YAML's aliases, and no saved config has")
        config = OmegaConf.create(text)
        plain = OmegaConf.to_container(config, resolve=False) if isinstance(config, DictConfig) else None
    except ConfigError:
        raise
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError, RecursionError, OSError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path}: not a config, or a damaged one ({line[:200]})") from error
    if not isinstance(plain, dict):
        raise ConfigError(f"{path}: not a config (it holds no object)")
    saved = {str(key): value for key, value in plain.items()}
    check_plain(saved, path)
    return saved


def check_plain(node: Mapping[str, Any], source: object, resolved: bool = True, most: int = MOST) -> None:
    """Refuse data that is more than numbers and short printable text: what it says reaches terminals and pages.

    Args:
        node: nested data.
        source: where it is from, for the message.
        resolved: whether it has no interpolations left; false for what is only compared and shown.
        most: values, at most.

    Raises:
        ConfigError: an interpolation, by which OmegaConf would run a resolver; text that is too long, or has
            control characters; too many values.
    """
    for count, (key, value) in enumerate(values(node)):
        if count >= most:
            raise ConfigError(f"{source}: is refused: it has more than {most:,} values")
        name = key[-100:].encode("unicode_escape").decode()
        if not is_text(key) or (resolved and "${" in key):
            raise ConfigError(f"{source}: the key {name} is refused: it has other characters than those of text")
        if isinstance(value, str):
            if resolved and ("${" in value or value == "???"):
                raise ConfigError(
                    f"{source}: {name}={value[:100]!a} is refused: what is saved has been resolved, so that"
                    " nothing in it need be looked up"
                )
            if len(value) > LONGEST or not is_text(value.replace("\n", "").replace("\t", "")):
                raise ConfigError(
                    f"{source}: {name} is refused: it is longer than {LONGEST:,} characters, or has control"
                    " characters in it"
                )
        elif value is not None and not isinstance(value, bool | int | float | dict | list):
            raise ConfigError(f"{source}: {name} is refused: it is of type {type(value).__name__}")


def read_numbers(path: Path) -> dict[str, float | None]:
    """Return a JSON file of numbers by their names; empty if there is no such file.

    Raises:
        ConfigError: it is damaged, or holds something else.
    """
    content = read_json(path) or {}
    check_plain(content, path, resolved=False)
    for name, value in content.items():
        if isinstance(value, bool) or not isinstance(value, int | float | None):
            raise ConfigError(f"{path}: a damaged file ({name[:60]} is no number)")
    return content


def read_evaluations(run: Path) -> dict[str, float]:
    """Return the numbers of what `vae.evaluate` has left in a run's folder: `evaluation/nll`,
    `evaluation_val/nll`, …

    Raises:
        ConfigError: a file is damaged.
    """
    numbers = {}
    for path in sorted(run.glob("evaluation*.json")):
        content = read_json(path) or {}
        check_plain(content, path, resolved=False)
        metrics = content.get("metrics")
        for name, value in metrics.items() if isinstance(metrics, dict) else ():
            if isinstance(value, int | float):
                numbers[f"{path.stem}/{name.rpartition('/')[2]}"] = value
    return numbers


def check_config(config: Mapping[str, Any], source: object) -> None:
    """Refuse a saved config that names what it may not, or by which Hydra would read or run something else.

    Raises:
        ConfigError: see above.
    """
    for key in ("defaults", "hydra"):
        if key in config:
            raise ConfigError(
                f"{source}: {key} is refused: a run's config is complete, with nothing by which Hydra would read"
                " or run something else"
            )
    check_targets(config, source)


def readers_paths() -> DictConfig:
    """Return where the reader has images, caches and weights, by the environment or by default:
    conf/train.yaml.
    """
    own = OmegaConf.load(CONF / "train.yaml")
    return OmegaConf.create({key: own.paths[key] for key in ("data", "cache", "weights")})


def readers_data(config: Mapping[str, Any], images: str | None = None, cache: str | None = None) -> dict[str, Any]:
    """Return the data config of somebody's run, which reads images where the run did, and writes where its
    reader does.

    Args:
        config: the run's, plain nested data.
        images: the reader's own folder of images; None for that of the run or, if it is not there, the usual one,
            as a set that is not there is downloaded.
        cache: the reader's own folder for decoded images; None for that of the run if the reader owns it and has
            decoded images there, else the usual one.
    """
    data, usual = dict(config["data"]), readers_paths()
    recorded = (config.get("paths") or {}).get("data")
    downloads = str(data.get("_target_")).startswith("vae.data.") and "image_folder" not in str(data["_target_"])
    for key, value in data.items():
        if key == "cache":
            data[key] = cache or (value if _is_readers_cache(value) else usual.cache)
        elif isinstance(value, str) and value == recorded:
            data[key] = images or (value if Path(value).is_dir() else usual.data)
        elif key == "path" and isinstance(value, str) and downloads and not Path(value).is_dir():
            data[key] = images or usual.data
    return data


def _is_readers_cache(folder: object) -> bool:
    """Return whether a folder is the reader's and has decoded images in it, and the environment names no other
    one.
    """
    if not isinstance(folder, str) or "CACHE_DIR" in os.environ or not hasattr(os, "getuid"):
        return False
    try:
        return Path(folder).stat().st_uid == os.getuid() and any(Path(folder).glob("*.images"))
    except (OSError, ValueError):
        return False


def resumed(config: Mapping[str, Any], folder: Path, source: object, typed: Collection[str] = ()) -> DictConfig:
    """Return the config of somebody's run with which it is resumed: with the reader's places in place of its own.

    Args:
        config: plain nested data, as `check_config` lets through.
        folder: where the run is.
        source: where the config is from, for messages.
        typed: keys that the reader gives a value of his own, which may therefore say anything.

    Raises:
        ConfigError: the config asks for something that the reader must ask for.
    """
    config = _without_server(config)
    check_asked(config, source, typed)
    found = OmegaConf.create(dict(config))
    began = OmegaConf.select(found, "paths.run")
    recorded = OmegaConf.select(found, "paths.data")
    found.paths = {**readers_paths(), "run": str(folder)}
    if isinstance(recorded, str) and Path(recorded).is_dir():
        found.paths.data = recorded
    for key, value in readers_data(config).items():
        # So that paths.data=… and paths.cache=… that the reader types still say where.
        place = "cache" if key == "cache" else "data" if value == found.paths.data else None
        found.data[key] = value if place is None else f"${{paths.{place}}}"
    found.trust, found.open = [], False
    _take_places(found, ("callback", "logger", "trainer"), began, folder, source, typed)
    for member in (found.get("callback") or {}).values():
        match (member or {}).get("_target_"):
            case "vae.sweep.pruning.Pruning":
                member.sweep, member.job = str(folder.parent), folder.name
            case "vae.callback.run_page.RunPage":
                member.open = False
    for key, _ in list(values({"metric": config.get("metric")})):
        if key.rpartition(".")[2] == "weights":
            OmegaConf.update(found, key, "${paths.weights}")
    return found


def _take_places(
    found: DictConfig,
    groups: Iterable[str],
    began: object,
    folder: Path,
    source: object,
    typed: Collection[str] = (),
) -> None:
    """Let what is written lie in the run's folder, where that is now, and go where the reader sends it."""
    whole = OmegaConf.to_container(found)
    assert isinstance(whole, dict)
    for group in groups:
        for key, value in list(values({group: whole.get(group)})):
            if key.rpartition(".")[2] in PLACES and isinstance(value, str) and key not in typed:
                OmegaConf.update(found, key, str(folder / _below(value, began, key, source)))
    if OmegaConf.select(found, "logger.mlflow") is not None:
        usual = OmegaConf.to_container(OmegaConf.load(CONF / "logger" / "mlflow.yaml"))
        OmegaConf.update(found, MLFLOW, usual["mlflow"]["tracking_uri"])  # type: ignore[call-overload, index]


def _without_server(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the same without the server that MLflow logged to, which is for the reader to say."""
    logger = config.get("logger")
    if not isinstance(logger, dict) or not isinstance(logger.get("mlflow"), dict):
        return config
    mlflow = {key: value for key, value in logger["mlflow"].items() if key != "tracking_uri"}
    return {**config, "logger": {**logger, "mlflow": mlflow}}


def readers_loggers(config: Mapping[str, Any], folder: Path, source: object) -> DictConfig:
    """Return the loggers of somebody's run, with which more is logged: those of `LOGGERS`, with the reader's
    places.

    Args:
        config: plain nested data, as `check_config` lets through.
        folder: where the run is.
        source: where the config is from, for messages.

    Raises:
        ConfigError: the config asks for something that the reader must ask for.
    """
    loggers = _without_server(config).get("logger") or {}
    known = {name: each for name, each in loggers.items() if name in LOGGERS and each}
    check_asked({"logger": known}, source)
    found = OmegaConf.create({"logger": known})
    _take_places(found, ("logger",), (config.get("paths") or {}).get("run"), folder, source)
    return found.logger


def _below(value: str, began: object, key: str, source: object) -> PurePath:
    """Return a place as it lies below the run's folder.

    Raises:
        ConfigError: it does not.
    """
    place, root = PurePath(value), PurePath(str(began))
    if ".." in place.parts or not place.is_relative_to(root):
        raise ConfigError(
            f"{source}: {key}={value} is refused: a run writes into its own folder; type {key}=… if it is right"
        )
    return place.relative_to(root)


def check_asked(config: Mapping[str, Any], source: object, typed: Collection[str] = ()) -> None:
    """Refuse a config, or a part of one, that asks for what only its reader may ask for.

    Raises:
        ConfigError: options of the trainer or of a logger that are on no list; a feature network to be opened.
    """
    for key, value in values(config):
        if any(key == given or key.startswith(f"{given}.") for given in typed):
            continue
        group, _, below = key.partition(".")
        if group == "trainer" and below and re.split(r"[.\[]", below)[0] not in TRAINER:
            raise _unasked(source, key, value)
        if group == "logger" and below:
            name, _, option = below.partition(".")
            if option and option not in LOGGERS.get(name, ()) and not re.fullmatch(r"tags(\[\d+\]|\.\w+)", option):
                raise _unasked(source, key, value)
            if option in ("id", "project") and not re.fullmatch(r"[\w.-]+", str(value)):
                raise _unasked(source, key, value)
            if not option and value is not None and name not in LOGGERS:
                raise _unasked(source, key, value)
        leaf = key.rpartition(".")[2]
        if group == "callback" and leaf == "filename" and value is not None and not is_plain_name(value):
            raise _unasked(source, key, value)
        if group == "metric" and leaf == "features" and value not in (None, "inception"):
            raise _unasked(source, key, value)


def _unasked(source: object, key: str, value: object) -> ConfigError:
    return ConfigError(
        f"{source}: {key}={ascii(value)[:100]} is refused: what a run says of this is not followed; type"
        f" {key}=… if you want it"
    )


def is_plain_name(value: object) -> bool:
    """Return whether this is a name for a file or folder that leads nowhere else."""
    return (
        isinstance(value, str)
        and value not in ("", ".", "..")
        and is_text(value)
        and not re.search(r"[/\\]", value)
        and len(value.encode()) <= 255
    )


def check_arguments(arguments: Iterable[object], source: object, typed: Collection[str] = ()) -> list[str]:
    """Return the saved arguments of a command that its reader takes over: keys of the config tree, with plain
    values.

    Args:
        arguments: as a sweep's folder has them.
        source: where they are from, for messages.
        typed: keys to which the reader gives a value of his own, which are left out.

    Raises:
        ConfigError: an argument is about other configs, about what a run may not say, or names foreign code.
    """
    kept = []
    for argument in arguments:
        shown = ascii(argument)[1:-1][:200] if isinstance(argument, str) else ascii(argument)[:200]
        if isinstance(argument, str) and argument.startswith(f"{CONFIG_DIR}="):
            if CONFIG_DIR not in typed:
                _check_folder(argument.partition("=")[2], source)
                kept.append(argument)
            continue
        if not isinstance(argument, str) or argument.startswith("-") or len(argument) > LONGEST:
            raise ConfigError(f"{source}: the argument {shown} is refused: it is no key with a value")
        if not is_text(argument):
            raise ConfigError(f"{source}: the argument {shown} is refused: it has control characters in it")
        try:
            parsed = OverridesParser.create().parse_override(argument)
            key = parsed.get_key_element().lstrip("+~")
            if key in typed or PASSED_OVER.fullmatch(key):
                continue
            if key == SEARCHPATH:
                _check_searchpath(_plain(parsed.value()), source)
            else:
                _check_argument(parsed, key, source)
        except (ConfigError, HydraException, ValueError, RecursionError) as error:
            why = " ".join(str(error).removeprefix(f"{source}: ").split())[:300]
            raise ConfigError(f"{source}: the argument {shown} is refused ({why})") from error
        kept.append(argument)
    return kept


def _check_searchpath(folders: object, source: object) -> None:
    """Refuse further folders of configs as `_check_folder` does, and what is no folder."""
    for folder in folders if isinstance(folders, list) else [folders]:
        if not isinstance(folder, str) or not folder.startswith("file://"):
            raise ConfigError(f"{SEARCHPATH} is set by who starts the sweep, but for folders")
        _check_folder(folder.removeprefix("file://"), source, f"'{SEARCHPATH}=[…]'")


def _check_folder(folder: str, source: object, argument: str = "") -> None:
    """Refuse a folder of configs that the reader has never named, or that is not there."""
    shown = ascii(folder)[1:-1]
    if not is_text(folder) or not is_known_folder(folder):
        raise ConfigError(
            f"{source}: it needs the configs in {shown}, which is as good as running code from there;"
            f" type {argument or f'{CONFIG_DIR}={shown}'} if you trust it"
        )
    if not Path(folder).is_dir():
        raise ConfigError(
            f"{source}: it needs the configs in {shown}, which is not there; type {argument or f'{CONFIG_DIR}=…'}"
        )


def _check_argument(parsed: Override, key: str, source: object) -> None:
    if not re.fullmatch(r"[A-Za-z_]\w*([./][A-Za-z_]\w*)*", key, re.ASCII):
        raise ConfigError(f"{key} is no key of the config")
    if parsed.is_delete():
        # Of a pruner and a sampler the classes are checked; of their arguments each may be left out.
        if key.partition(".")[0].startswith("hydra") and not ((part := PART.fullmatch(key)) and part[2]):
            raise ConfigError(f"{key} is Hydra's")
        return
    for value in _choices(parsed.value()):
        plain = _plain(value)
        check_plain({key: plain}, source)
        if key == "sweep.jobs":
            for line in plain if isinstance(plain, list) else [plain]:
                check_arguments(str(line).split(), source)
        if key.startswith("hydra.sweeper.params."):
            _check_value(key.removeprefix("hydra.sweeper.params.").lstrip("+"), plain, source)
        elif match := PART.fullmatch(key):
            check_targets({match[1]: _nested((match[2] or "").lstrip("."), plain)}, source)
        elif key.startswith("hydra"):
            if not HYDRA.fullmatch(key):
                raise ConfigError(f"{key} is set by who starts the sweep")
            check_targets({"hydra": plain}, source)
            if "/" in key:
                _check_option(key, plain)
        else:
            _check_value(key, plain, source)


def _check_value(key: str, plain: Any, source: object) -> None:
    """Check one value of a key of the config tree."""
    group = key.replace("/", ".").partition(".")[0]
    if group == "paths" and key != "paths.data":
        raise ConfigError(f"{key} is set by who starts the sweep")
    is_choice = "." not in key and (group in KINDS or "/" in key or key in ("experiment", "sweep"))
    if is_choice and not isinstance(plain, dict):
        return _check_option(key, plain)
    partial = _nested(key, plain)
    if group == "data" and "cache" in (partial.get("data") or {}):
        raise ConfigError(f"{key} is set by who starts the sweep")
    if group in ("callback", "logger", "trainer"):
        for place, value in values(partial):
            if place.rpartition(".")[2] in PLACES and value is not None:
                raise ConfigError(f"{place} is set by who starts the sweep")
    check_targets(partial, source)
    check_asked(partial, source)
    return None


def _check_option(key: str, option: object) -> None:
    """Check the name of a file in conf/."""
    for name in option if isinstance(option, list) else [option]:
        if name is not None and not re.fullmatch(r"\w+(/\w+)*", str(name), re.ASCII):
            raise ConfigError(f"{key}={name} is not the name of an option")


def _nested(key: str, value: Any) -> Any:
    """`value` as it stands in the config below `key`."""
    for part in reversed(key.split(".")) if key else ():
        value = {part: value}
    return value


def _choices(value: Any) -> list[Any]:
    """Return the values that a sweep goes through, or the one value."""
    if isinstance(value, ChoiceSweep):
        return list(value.list)
    if isinstance(value, Sweep):
        # Of numbers, whose bounds Hydra's grammar has checked.
        return []
    return [value]


def _plain(value: Any) -> Any:
    """Return a value of Hydra's grammar as plain data."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, dict):
        return {str(_plain(key)): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
