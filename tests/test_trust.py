"""A saved config may only name what a run is made of."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig, OmegaConf

from vae.checks import ConfigError
from vae.trust import check_targets, is_allowed


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "functools.partial",
        "torch.load",
        "torch.hub.load",
        "torch.os.system",
        "torch.hub.os.system",
        "vae.cli.os.system",
        "vae.run.Path",
        "vae.trust.inspect.getsource",
        "vae.run.torch.load",
        "vae.run.load_model",
        "vae.run.OmegaConf",
        "torch.utils.cpp_extension.load",
        "torch.package.PackageImporter",
        "lightning.pytorch.cli.LightningCLI",
        "torchvision.datasets.MNIST",
        "hydra.utils.get_class",
        "vaeevil.Thing",
        "",
        None,
        3,
    ],
)
def test_foreign_code_is_refused(target: object) -> None:
    assert not is_allowed(target)
    config = OmegaConf.create({"network": {"layers": [{"encoder": {"_target_": target}}]}})
    with pytest.raises(ConfigError, match=r"network\.layers\[0\]\.encoder\._target_=.* is refused"):
        check_targets(config, "some run")


@pytest.mark.parametrize(
    "target",
    [
        "vae.network.mlp.MLPEncoder",
        "vae.data.digits.Digits",
        "torch.optim.Adam",
        "torch.optim.lr_scheduler.CosineAnnealingLR",
        "lightning.pytorch.Trainer",
        "lightning.pytorch.callbacks.ModelCheckpoint",
        "torch.nn.ReLU",
    ],
)
def test_what_a_run_is_made_of_is_allowed(target: str) -> None:
    assert is_allowed(target)


def test_the_default_config_is_allowed(composed: Callable[..., DictConfig]) -> None:
    check_targets(composed(), "the default")


def test_a_saved_feature_network_of_ones_own_is_refused() -> None:
    config = OmegaConf.create({"metric": {"test": {"generation": {"features": "os:getcwd"}}}})
    with pytest.raises(ConfigError, match=r"metric\.test\.generation\.features=os:getcwd is refused"):
        check_targets(config, "some run")
