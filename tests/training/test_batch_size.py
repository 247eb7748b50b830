"""data.batch_size=auto. A loss that refuses large batches, as a GPU does, stands in for one."""

from collections.abc import Callable

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.tuner import batch_size_scaling
from omegaconf import DictConfig

from vae.checks import ConfigError
from vae.data import Batch
from vae.training import batch_size
from vae.training.batch_size import largest_batch_size, search
from vae.training.build import build_module, build_trainer
from vae.training.module import VAEModule

Composed = Callable[..., DictConfig]
QUICK = ["trainer.accelerator=cpu", "latent_size=2", "network.hidden_sizes=[8]", "logger=none", "callback=none"]
TRAINING_IMAGES = 1257


@pytest.fixture(autouse=True)
def quick_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer trials, and no search through every object of the tests' process at each."""
    monkeypatch.setattr(batch_size, "FIRST", 128)
    monkeypatch.setattr(batch_size_scaling, "garbage_collection_cuda", lambda: None)


# The trials leave their folder behind.
pytestmark = pytest.mark.filterwarnings("ignore:The dirpath has changed")


@pytest.mark.parametrize(
    ("fits", "found", "steps"), [(300, 256, "auto"), (256, 256, "1"), (10**6, TRAINING_IMAGES, "auto")]
)
def test_the_largest_that_fits(
    fits: int,
    found: int,
    steps: str,
    composed: Composed,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    step = VAEModule.training_step

    def refusing(self: VAEModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        if len(batch.image) > fits:
            raise RuntimeError("CUDA out of memory. Tried to allocate 1.00 GiB")
        return step(self, batch, batch_idx)

    monkeypatch.setattr(VAEModule, "training_step", refusing)
    config = composed(*QUICK, f"steps_at_once={steps}", "data.batch_size=16")
    data = instantiate(config.data)
    trainer = build_trainer(config)
    assert search(trainer, build_module(config, data, trainer), data) == found
    assert not [record for record in caplog.records if record.name in batch_size.TALKERS]


def test_other_errors_are_no_answer(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: VAEModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(VAEModule, "training_step", failing)
    config = composed(*QUICK, "data.batch_size=16")
    data = instantiate(config.data)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        search(build_trainer(config), build_module(config, data), data)


@pytest.mark.parametrize("overrides", [[], ["trainer.devices=2"]])
def test_where_no_batch_would_be_refused(overrides: list[str], composed: Composed) -> None:
    config = composed(*QUICK, "data.batch_size=auto", *overrides)
    with pytest.raises(ConfigError, match=r"data\.batch_size=auto: must be a number unless one GPU trains"):
        largest_batch_size(config)


def test_the_search_is_given_its_own_config(composed: Composed, monkeypatch: pytest.MonkeyPatch) -> None:
    config = composed(*QUICK, "data.batch_size=auto")
    before = config.copy()
    built = build_trainer(composed(*QUICK))
    monkeypatch.setattr(built.strategy, "_root_device", torch.device("meta"), raising=False)
    monkeypatch.setattr(batch_size, "build_trainer", lambda config: built)
    monkeypatch.setattr(batch_size, "search", lambda trainer, module, data: data.batch_size)
    assert largest_batch_size(config) == batch_size.FIRST
    assert config == before
