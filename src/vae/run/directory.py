"""The run directory: what is in it, and how to load it."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vae.checks import ConfigError, check_choice
from vae.paths import CONF
from vae.run.checkpoint import newest_undamaged
from vae.run.files import read_json, to_json, write_atomically
from vae.run.trust import check_targets


class RunDirectory:
    """The files of one run; `last` names the newest one below ./runs.

    ```
    .hydra/config.yaml   the resolved config
    .hydra/origin.json   commit, device, version of torch
    .hydra/images.json   which image files make up each split, where the images are files
    checkpoints/         best.ckpt (by val/elbo), last.ckpt, and previous.ckpt, the one before last.ckpt
    metrics.csv          every logged number
    metrics.json         the final numbers; it is there if and only if the run completed
    images/  wandb/
    ```
    """

    def __init__(self, path: str | Path):
        self.path = newest_run(Path("runs")) if str(path) == "last" else Path(path)
        self.config_file = self.path / ".hydra" / "config.yaml"
        self.origin_file = self.path / ".hydra" / "origin.json"
        self.images_file = self.path / ".hydra" / "images.json"
        self.metrics_file = self.path / "metrics.json"
        self.images = self.path / "images"

    def checkpoint(self, name: str = "best") -> Path:
        """The path of a checkpoint, `best` or `last`.

        Raises:
            ConfigError: this is no run directory, or it has no such checkpoint.
        """
        path = self.path / "checkpoints" / f"{check_choice('checkpoint', name, ('best', 'last'))}.ckpt"
        self.config()
        if not path.is_file():
            raise ConfigError(f"{path}: there is no such checkpoint; the run ended before its first epoch did")
        return path

    def last_checkpoint(self) -> Path | None:
        """Where to continue an interrupted run; None if it ended before its first epoch did.

        Raises:
            ConfigError: every checkpoint is damaged.
        """
        return newest_undamaged(self.path / "checkpoints")

    def config(self) -> DictConfig:
        """The resolved config, with what the keys that are newer than the run meant to it.

        Raises:
            ConfigError: this is no run directory, its config is damaged, or it names foreign code.
        """
        if not self.config_file.is_file():
            raise ConfigError(f"{self.path}: not a run directory (it has no .hydra/config.yaml)")
        config = read_config(self.config_file)
        check_targets(config, self.config_file)
        return OmegaConf.merge(_defaults(), config)  # type: ignore[return-value]

    def check_in_place(self) -> None:
        """Refuse to go on with a run elsewhere than where it began: what it saved names the files there.

        Raises:
            ConfigError: the directory was copied or moved.
        """
        paths = self.config().paths
        if OmegaConf.is_interpolation(paths, "run"):
            # Hydra's own copy of the config: the run ended before it had saved a resolved one.
            return
        began = Path(paths.run)
        if began.resolve() != self.path.resolve():
            raise ConfigError(
                f"{self.path}: this run was copied or moved from {began}, where alone it can be resumed"
                " (it can be evaluated and sampled from anywhere)"
            )

    def complete_config(self) -> None:
        """Save what `config` adds, for Hydra, which reads the file itself when a run is resumed.

        Of a run that ended before it had saved a resolved config, that is also its name, which Hydra would not
        know: it comes from the choice of data, of which the file says nothing.

        Raises:
            ConfigError: see `config`.
        """
        complete = self.config()
        if OmegaConf.is_interpolation(complete, "name"):
            complete.name = self._chosen_data() or complete.data._target_.rpartition(".")[2].lower()
        if complete != OmegaConf.load(self.config_file):
            write_atomically(self.config_file, OmegaConf.to_yaml(complete))

    def _chosen_data(self) -> str | None:
        """What was typed behind `data=`, if Hydra got as far as writing it down."""
        try:
            chosen = OmegaConf.load(self.config_file.with_name("hydra.yaml"))
            return OmegaConf.select(chosen, "hydra.runtime.choices.data")
        except (OSError, yaml.YAMLError, OmegaConfBaseException):
            return None

    def write_config(self, config: DictConfig) -> None:
        """Save a config with every interpolation resolved, so that it means the same on any day and machine."""
        resolved = OmegaConf.create(OmegaConf.to_container(config, resolve=True))
        write_atomically(self.config_file, OmegaConf.to_yaml(resolved))

    def write_origin(self, origin: Mapping[str, str | None]) -> None:
        """Say which sources train this run, and where; of a run that was resumed, all of them."""
        before = read_json(self.origin_file) or {}
        joined = {key: _joined(before.get(key), value) for key, value in origin.items()}
        write_atomically(self.origin_file, json.dumps(joined, indent=2) + "\n")

    def keep_images(self, place: str, digests: Mapping[str, str]) -> None:
        """Write down which images this run is trained on or, where it has been resumed, say if they are others."""
        if self.images_file.exists():
            self.compare_images(place, digests)
        else:
            write_atomically(self.images_file, json.dumps(digests, indent=2) + "\n")

    def compare_images(self, place: str, digests: Mapping[str, str]) -> None:
        """Say on stderr how far the images are other ones than those that the run was trained on.

        Args:
            place: the folder or zip of the images.
            digests: of each split, see `ImageDataModule.note`.
        """
        before = read_json(self.images_file)
        if before is None:
            said = f"{place}: nothing says which images the run {self.path.name} was trained on;"
            print(f"{said} splits that were drawn and not given are others now", file=sys.stderr, flush=True)
            return
        changes = [
            f"{split} was {before.get(split, 'nothing')} and is {digests.get(split, 'nothing')}"
            for split in dict.fromkeys([*digests, *before])
            if before.get(split) != digests.get(split)
        ]
        if changes:
            said = f"{place}: the images have changed since the run {self.path.name} began: {', '.join(changes)}"
            print(said, file=sys.stderr, flush=True)

    def write_metrics(self, metrics: Mapping[str, float | int]) -> None:
        """Write metrics.json: flat, sorted, with null for what is not a finite number."""
        write_atomically(self.metrics_file, to_json(dict(sorted(metrics.items())), indent=2) + "\n")

    def metrics(self) -> dict[str, float]:
        """The final numbers."""
        return json.loads(self.metrics_file.read_text(encoding="utf-8"))


def _defaults() -> DictConfig:
    """The keys that conf/train.yaml has itself, without what only Hydra can resolve: a key that a run lacks."""
    own = OmegaConf.load(CONF / "train.yaml")
    assert isinstance(own, DictConfig)
    plain = [str(key) for key in own if not OmegaConf.is_interpolation(own, str(key))]
    return OmegaConf.create({key: own[key] for key in plain if key not in ("defaults", "hydra", "paths")})


def _joined(before: str | None, now: str | None) -> str | None:
    if before is None or now is None or now in before.split("; "):
        return before or now
    return f"{before}; {now}"


def read_config(path: Path) -> DictConfig:
    """A YAML file as a config.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        config = OmegaConf.load(path)
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, RecursionError, OSError) as error:
        line = " ".join(str(error).split()) or type(error).__name__
        raise ConfigError(f"{path}: not a config, or a damaged one ({line[:200]})") from error
    if not isinstance(config, DictConfig) or "data" not in config:
        raise ConfigError(f"{path}: not the config of a run")
    return config


def newest_run(root: Path) -> Path:
    """The run below a folder that was started or resumed last, of those that have a checkpoint.

    Raises:
        ConfigError: there is none.
    """
    found: list[tuple[float, Path]] = []
    for folder, names, _ in os.walk(root):
        config = Path(folder, ".hydra", "config.yaml")
        if ".hydra" in names and config.is_file():
            names.clear()
            if any(Path(folder, "checkpoints").glob("*.ckpt")):
                found.append((config.stat().st_mtime, Path(folder)))
    if not found:
        raise ConfigError(f"run=last: there is no run with a checkpoint below {root.absolute()}")
    return max(found)[1]
