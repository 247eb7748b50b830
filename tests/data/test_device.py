"""Where the images are kept. `meta` stands in for a GPU: it has shapes and a name, and no content."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from vae.checks import ConfigError
from vae.data import image_data
from vae.data.digits import Digits
from vae.training.build import build_module, build_trainer

META = torch.device("meta")


def _digits(monkeypatch: pytest.MonkeyPatch, free: int, device: str = "auto") -> Digits:
    data = Digits(val_size=100, device=device)
    data.setup()
    strategy = SimpleNamespace(root_device=META)
    data.trainer = SimpleNamespace(strategy=strategy, global_rank=0, world_size=1)  # type: ignore[assignment]
    monkeypatch.setattr(image_data, "free_bytes", lambda _: free)
    return data


TRAIN_BYTES = (1797 - 360) * 64


@pytest.mark.parametrize(
    ("free", "option", "expected"),
    [
        (2 * TRAIN_BYTES, "auto", "meta"),
        (2 * TRAIN_BYTES - 1, "auto", "cpu"),
        (TRAIN_BYTES, "gpu", "meta"),
        (1 << 40, "cpu", "cpu"),
    ],
)
def test_on_the_device_where_it_fits(
    monkeypatch: pytest.MonkeyPatch, free: int, option: str, expected: str
) -> None:
    batch = next(iter(_digits(monkeypatch, free, option).train_dataloader()))
    assert batch.image.device.type == batch.label.device.type == expected
    assert batch.image.shape == (128, 1, 8, 8)


def test_splits_that_share_images_share_the_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _digits(monkeypatch, 1 << 40)
    subsets = [loader().dataset for loader in (data.train_dataloader, data.val_dataloader, data.test_dataloader)]
    train, val, test = (subset.source.images for subset in subsets)  # type: ignore[attr-defined]
    assert train is val
    assert test is not train
    assert data.images("train", 3)[0].device.type == "cpu"


def test_a_device_without_known_memory_is_not_used() -> None:
    assert image_data.free_bytes(META) == 0


def test_images_that_do_not_fit_on_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        ConfigError, match=r"data\.device=gpu: must be auto or cpu, as the images take up 0\.00 GB"
    ):
        _digits(monkeypatch, TRAIN_BYTES - 1, "gpu").train_dataloader()


def test_no_gpu_to_keep_images_on(composed: Callable[..., DictConfig]) -> None:
    config = composed(
        "data.device=gpu", "trainer.accelerator=cpu", "logger=none", "callback=none", "latent_size=2"
    )
    data = instantiate(config.data)
    trainer = build_trainer(config)
    module = build_module(config, data, trainer)
    with pytest.raises(ConfigError, match=r"data\.device=gpu: must be auto or cpu where training runs on the CPU"):
        trainer.fit(module, data)


def test_what_was_trained_from_a_gpu_is_evaluated_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    data = _digits(monkeypatch, 0, "gpu")
    data.trainer.strategy.root_device = torch.device("cpu")  # type: ignore[union-attr, misc]
    assert next(iter(data.test_dataloader())).image.device.type == "cpu"


def test_impossible_option() -> None:
    with pytest.raises(ConfigError, match=r"data.device=tpu: must be one of auto, cpu, gpu"):
        Digits(device="tpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_batches_from_the_device_equal_those_from_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu, gpu = _digits(monkeypatch, 0), _digits(monkeypatch, 1 << 40)
    gpu.trainer.strategy.root_device = torch.device("cuda", 0)  # type: ignore[union-attr, misc]
    for here, there in zip(cpu.train_dataloader(), gpu.train_dataloader(), strict=True):
        assert there.image.is_cuda
        assert torch.equal(here.image, there.image.cpu())
