"""How many CPU threads a training has: by the sizes of its step, and said."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from commands import run_command, run_train
from vae.checks import ConfigError
from vae.training.build import build_module, build_trainer
from vae.training.threads import threads_for, use_threads


@pytest.fixture
def sixteen() -> Iterator[None]:
    with use_threads(16):
        yield


@pytest.mark.parametrize(
    ("overrides", "threads"),
    [
        ([], 1),  # 65 MFLOP
        (["network.hidden_sizes=[1024,1024]"], 2),  # 850 MFLOP
        (["network.hidden_sizes=[2048,2048]", "data.batch_size=512"], 16),
        (["network.hidden_sizes=[2048,2048]", "threads=3"], 3),
    ],
)
def test_a_small_step_has_few_threads(
    overrides: list[str], threads: int, composed: Callable[..., DictConfig], sixteen: None
) -> None:
    config = composed("trainer.accelerator=cpu", "callback=none", "logger=none", *overrides)
    data, trainer = instantiate(config.data), build_trainer(config)
    module = build_module(config, data, trainer)
    assert threads_for(config.threads, module, trainer, config.data.batch_size) == threads
    with pytest.raises(ConfigError, match="threads=many: must be auto or a whole number of at least 1"):
        threads_for("many", module, trainer, config.data.batch_size)
    with pytest.raises(ConfigError, match="threads=0: must be a whole number from 1 to"):
        threads_for(0, module, trainer, config.data.batch_size)


def test_they_are_given_back() -> None:
    before = torch.get_num_threads()
    with use_threads(before + 1):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_run_says_what_was_chosen_and_where_its_threads_sleep(tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick = ["trainer.max_epochs=1", "network.hidden_sizes=[16]", "logger=csv", "callback=none", "prior=vamp"]
    done = run_train(*quick, f"hydra.run.dir={run}", OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    assert "auto chose objective.kl=monte_carlo, threads=1\n" in done.stdout
    assert "kl: monte_carlo\n" in (run / ".hydra" / "config.yaml").read_text()
    assert "1 threads" in (run / ".hydra" / "origin.json").read_text()
    said = run_command("-c", "import os, vae.command.command; print(os.environ['OMP_WAIT_POLICY'])")
    assert said.stdout == "passive\n"
