"""The run directory: what is in it, and how to load it."""

import hashlib
import json
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError, check_choice, is_text
from vae.paths import CONF
from vae.run.checkpoint import newest_undamaged
from vae.run.files import check_folder, folders_with, read_json, remove_partials, to_json, write_atomically
from vae.run.lock import LocklessError, holder, lock_file, sign
from vae.run.saved_config import (
    check_config,
    check_plain,
    read_numbers,
    read_plain,
    readers_loggers,
    resumed,
)

MODEL = ("data", "paths", "network", "posterior", "prior", "likelihood", "latent_size", "init", "seed")
"""The keys of a config that a model is made from; `data` says how large its images are, and how bytes become x."""

EXPORTED = "config.json"
"""The config of a run's model in a folder that `vae.export` has written, with its weights in model.safetensors."""

LEFT = (
    # First what says that the run is complete.
    *("metrics.json", "checkpoints", "metrics.csv", "run.html", "evaluation*.json", "evaluation*.html"),
    *("images", "samples", "export", "wandb", "tensorboard"),
    *(".hydra/*.json", ".hydra/*.patch"),
)
"""What a run leaves in its directory, and the commands that measure and show it, apart from its config."""


class RunDirectory:
    """The files of one run; `last` names the newest one below ./runs.

    ```
    .hydra/config.yaml   the resolved config
    .hydra/origin.json   what was typed, commit, host, device, versions of all packages, images of each split
    .hydra/sources-….patch  what the sources had that was in no commit
    .hydra/changes.json  what was changed when the run was resumed, and at which step
    checkpoints/         best.ckpt (by val/elbo), last.ckpt and, until the run is complete, previous.ckpt
    metrics.csv          every logged number
    metrics.json         the final numbers; it is there if and only if the run completed
    images/  wandb/
    ```
    A folder that `vae.export` has written is read as one, whose config is config.json and whose best checkpoint is
    model.safetensors.
    """

    def __init__(self, path: str | Path):
        self.path = newest_run(Path("runs")) if str(path) == "last" else Path(path).expanduser()
        self.config_file = self.path / ".hydra" / "config.yaml"
        self.is_exported = not self.config_file.is_file() and (self.path / EXPORTED).is_file()
        if self.is_exported:
            self.config_file = self.path / EXPORTED
        self.origin_file = self.path / ".hydra" / "origin.json"
        self.changes_file = self.path / ".hydra" / "changes.json"
        self.metrics_file = self.path / "metrics.json"
        self.images = self.path / "images"

    def checkpoint(self, name: str = "best") -> Path:
        """Return the path of a checkpoint, `best` or `last`.

        Raises:
            ConfigError: this is no run directory, or it has no such checkpoint.
        """
        path = self.path / "checkpoints" / f"{check_choice('checkpoint', name, ('best', 'last'))}.ckpt"
        if self.is_exported and name == "best":
            path = self.path / "model.safetensors"
        self.model_config()
        if not path.is_file():
            others = sorted(other.name for other in path.parent.glob("*.ckpt"))
            why = f"there are {', '.join(others)}" if others else "the run ended before its first epoch did"
            raise ConfigError(f"{path}: there is no such checkpoint; {why}")
        return path

    def last_checkpoint(self) -> Path | None:
        """Return where to continue an interrupted run; None if it ended before its first epoch did.

        Raises:
            ConfigError: every checkpoint is damaged.
        """
        return newest_undamaged(self.path / "checkpoints")

    def config(self) -> DictConfig:
        """Return the resolved config, with what the keys that are newer than the run meant to it.

        Raises:
            ConfigError: this is no run directory, its config is damaged, or it says more than a config may.
        """
        return OmegaConf.create(self._saved())

    def resumed_config(self, typed: Collection[str] = ()) -> DictConfig:
        """Return the config with which this run is resumed, with the reader's own places.

        Args:
            typed: keys to which the reader gives another value.

        Raises:
            ConfigError: see `config`; or it says what only the reader may.
        """
        check_folder(self.path)
        if self.is_exported:
            raise ConfigError(f"{self.path}: is an exported model, without the state in which training ended")
        return resumed(self._saved(), self.path.absolute(), self.config_file, typed)

    def loggers(self) -> DictConfig:
        """Return the config of the loggers by which more is added to this run, with the reader's own places.

        Raises:
            ConfigError: see `resumed_config`.
        """
        check_folder(self.path)
        return readers_loggers(self._saved(), self.path.absolute(), self.config_file)

    def model_config(self) -> DictConfig:
        """Return the part of the config that makes the model: nothing else matters to who loads it.

        Raises:
            ConfigError: see `config`, for this part.
        """
        return OmegaConf.create(self._saved(MODEL))

    def _saved(self, parts: Collection[str] | None = None) -> dict[str, Any]:
        if not self.config_file.is_file():
            raise ConfigError(f"{self.path}: not a run directory (it has no .hydra/config.yaml)")
        if not is_text(str(self.path)):
            raise ConfigError(f"{str(self.path)!a}: is refused: there are control characters in its name")
        saved = read_plain(self.config_file)
        if not isinstance(saved.get("data"), dict):
            raise ConfigError(f"{self.config_file}: not the config of a run")
        if parts is not None:
            saved = {key: value for key, value in saved.items() if key in parts}
        check_config(saved, self.config_file)
        return OmegaConf.to_container(OmegaConf.merge(_defaults(), saved))  # type: ignore[return-value]

    @contextmanager
    def claim(self) -> Iterator[None]:
        """Keep every other process from training this run, and remove what a killed one was writing.

        Raises:
            ConfigError: one is at it; or the folder has a name by which no run is read.
        """
        if not is_text(str(self.path)):
            raise ConfigError(f"hydra.run.dir={str(self.path)!a}: must have no control characters in it")
        path = self.config_file.with_name(".lock")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = lock_file(path, wait=False)
        except LocklessError as error:
            print(f"warning: {error}: see to it that no two processes train this run", file=sys.stderr)
            file = path.open("a+", encoding="utf-8")
        if file is None:
            raise ConfigError(f"{self.path}: another process trains this run ({holder(path)})")
        with file:
            sign(file)
            remove_partials(self.path)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def clear(self) -> None:
        """Delete what another run has left here, apart from its config, and nothing that no run writes."""
        for name in LEFT:
            for path in self.path.glob(name):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                else:
                    path.unlink()

    def write_config(self, config: DictConfig) -> None:
        """Save a config with every interpolation resolved, so that it means the same on any day and machine."""
        resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
        write_atomically(self.config_file, OmegaConf.to_yaml(resolved))

    def write_arguments(self, arguments: Sequence[str]) -> None:
        """Save what was typed behind train.py."""
        self._add_to_origin("arguments", list(arguments))

    def arguments(self) -> list[str]:
        """Return what was typed behind train.py; empty where that is not known."""
        lines = (_readable(self.origin_file) or {}).get("arguments")
        return (
            [line for line in lines if isinstance(line, str) and is_text(line)] if isinstance(lines, list) else []
        )

    def write_origin(self, origin: Mapping[str, Any], changes: str = "") -> None:
        """Say which sources train this run, and where; of a run that was resumed, all of them.

        Args:
            origin: what `vae.run.origin.origin` gives.
            changes: what the sources have that is in no commit, kept as a patch beside it.
        """
        if changes:
            name = f"sources-{hashlib.blake2b(changes.encode(), digest_size=4).hexdigest()}.patch"
            write_atomically(self.origin_file.with_name(name), changes)
            origin = {**origin, "changes": name}
        before = _readable(self.origin_file) or {}
        whole: dict[str, Any] = {
            key: _joined(before.get(key), value)
            for key, value in origin.items()
            if value is None or isinstance(value, str)
        }
        others = {key: before.get(key) for key in ("arguments", "images")} | {"packages": origin.get("packages")}
        self._write_origin(whole | {key: value for key, value in others.items() if isinstance(value, dict | list)})

    def _add_to_origin(self, key: str, value: Any) -> None:
        self._write_origin({**(_readable(self.origin_file) or {}), key: value})

    def _write_origin(self, whole: Mapping[str, Any]) -> None:
        write_atomically(self.origin_file, json.dumps(whole, indent=2, ensure_ascii=False) + "\n")

    def origin(self) -> dict[str, str | None]:
        """Return which sources trained this run, and where; without its packages."""
        found = _readable(self.origin_file) or {}
        return {key: value for key, value in found.items() if value is None or isinstance(value, str)}

    def packages(self) -> dict[str, str]:
        """Return the versions of the packages with which this run was trained last; empty where they are not
        known.
        """
        return self._of_origin("packages")

    def _of_origin(self, key: str) -> dict[str, str]:
        found = (_readable(self.origin_file) or {}).get(key)
        return found if isinstance(found, dict) else {}

    def keep_images(self, place: str, digests: Mapping[str, str]) -> None:
        """Write down which images this run is trained on or, where it has been resumed, say if they are others."""
        if self.image_digests():
            self.compare_images(place, digests)
        else:
            self._add_to_origin("images", dict(digests))

    def image_digests(self) -> dict[str, str]:
        """Return the digest of each split's images; empty where they are not known."""
        return self._of_origin("images")

    def compare_images(self, place: str, digests: Mapping[str, str]) -> None:
        """Say on stderr how far the images are other ones than those that the run was trained on.

        Args:
            place: the folder or zip of the images; empty where they are no files of the user's.
            digests: of each split, see `ImageDataModule.note`.
        """
        before = self.image_digests()
        if not before and not place:
            return
        if not before:
            said = f"{place}: nothing says which images the run {self.path.name} was trained on;"
            print(f"{said} splits that were drawn and not given are others now", file=sys.stderr, flush=True)
            return
        changes = [
            f"{split} was {before.get(split, 'nothing')} and is {digests.get(split, 'nothing')}"
            for split in dict.fromkeys([*digests, *before])
            if before.get(split) != digests.get(split)
        ]
        if changes:
            began = f"the images have changed since the run {self.path.name} began"
            said = f"{place or 'data'}: {began}: {', '.join(changes)}"
            print(said, file=sys.stderr, flush=True)

    def write_changes(self, step: int, changes: Iterable[tuple[str, Any, Any]]) -> None:
        """Add to what has changed since the run began: from which step on, which key, from what to what."""
        found = self.changes()
        new = [{"step": step, "key": key, "from": before, "to": now} for key, before, now in changes]
        write_atomically(self.changes_file, to_json({"changes": found + new}, indent=2) + "\n")

    def changes(self) -> list[dict[str, Any]]:
        """Return what has changed since the run began, as `write_changes` has it."""
        return (_readable(self.changes_file) or {}).get("changes", [])

    def write_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """Write metrics.json: flat, sorted, with null for what is not a finite number."""
        write_atomically(self.metrics_file, to_json(dict(sorted(metrics.items())), indent=2) + "\n")

    def is_complete(self) -> bool:
        """Return whether the final numbers are there; a damaged file has none."""
        return _readable(self.metrics_file) is not None

    def metrics(self) -> dict[str, Any]:
        """Return the final numbers."""
        return read_numbers(self.metrics_file)


def _readable(path: Path) -> dict[str, Any] | None:
    """Return the contents of a small file that a run can do without. Of a damaged one a warning is all there
    is.
    """
    try:
        content = read_json(path)
        check_plain(content or {}, path, resolved=False)
        return content
    except ConfigError as error:
        print(f"warning: {error}; the run goes on without it", file=sys.stderr)
        return None


@cache
def _defaults() -> DictConfig:
    """Return the keys that conf/train.yaml has itself, without what only Hydra can resolve: a key that a run
    lacks.
    """
    own = OmegaConf.load(CONF / "train.yaml")
    assert isinstance(own, DictConfig)
    plain = [str(key) for key in own if not OmegaConf.is_interpolation(own, str(key))]
    return OmegaConf.create({key: own[key] for key in plain if key not in ("defaults", "hydra", "paths")})


def _joined(before: object, now: str | None) -> str | None:
    if not isinstance(before, str):
        return now
    if now is None or now in before.split("; "):
        return before or now
    return f"{before}; {now}"


def newest_run(root: Path) -> Path:
    """Return the run below a folder that was started or resumed last, of those that have a checkpoint.

    Raises:
        ConfigError: there is none.
    """
    runs = folders_with(root, ".hydra/config.yaml")
    found = [(written, run) for written, run in runs if any((run / "checkpoints").glob("*.ckpt"))]
    if not found:
        raise ConfigError(f"run=last: there is no run with a checkpoint below {root.absolute()}")
    return max(found)[1]
