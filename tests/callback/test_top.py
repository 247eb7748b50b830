"""Several of the best epochs beside the best one."""

import csv
from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig

from vae.checks import ConfigError
from vae.run.checkpoint import read_checkpoint
from vae.training.build import build_module, build_trainer

Composed = Callable[..., DictConfig]
QUICK = ["trainer.max_epochs=5", "trainer.accelerator=cpu", "network.hidden_sizes=[16]", "logger=csv"]
QUIET = ["callback.pictures=null", "callback.progress=null", "callback.summary=null"]


def test_the_best_epochs_are_kept_and_the_last_checkpoint_knows_them(composed: Composed, tmp_path: Path) -> None:
    config = composed("callback=top", "callback.top.save_top_k=2", *QUICK, *QUIET, "optimizer.lr=0.05")
    data = instantiate(config.data)
    trainer = build_trainer(config)
    trainer.fit(build_module(config, data), data)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        bounds = {int(row["epoch"]): float(row["val/elbo"]) for row in csv.DictReader(file) if row["val/elbo"]}
    best = sorted(bounds, key=bounds.__getitem__)[-2:]
    folder = tmp_path / "checkpoints"
    assert {path.name for path in folder.glob("top*")} == {f"top_epoch={epoch:04d}.ckpt" for epoch in best}
    assert read_checkpoint(folder / "best.ckpt")["epoch"] == best[-1]
    # What is resumed from has the state of all callbacks after the same epoch.
    states = read_checkpoint(folder / "last.ckpt")["callbacks"]
    (top,) = (state for name, state in states.items() if name.startswith("Top"))
    assert {Path(path).name for path in top["best_k_models"]} == {path.name for path in folder.glob("top*")}


def test_best_is_one_file(composed: Composed) -> None:
    with pytest.raises(ConfigError, match=r"callback\.best\.save_top_k=3: must be 1; callback=top has callback"):
        build_trainer(composed(*QUICK, "+callback.best.save_top_k=3"))
