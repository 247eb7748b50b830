"""A saved config may only name what a run is made of."""

import ast
import re
from collections.abc import Callable

import pytest
from omegaconf import DictConfig, OmegaConf

from commands import REPOSITORY
from vae.checks import ConfigError
from vae.run.trust import check_arguments, check_targets, is_allowed


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
        "vae.command.command.os.system",
        "vae.run.directory.Path",
        "vae.run.trust.inspect.getsource",
        "vae.run.checkpoint.torch.load",
        "vae.trained.load.load_model",
        "vae.run.directory.OmegaConf",
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


@pytest.mark.parametrize("target", ["os.system", "builtins.eval", "subprocess.Popen", "hydra.utils.get_method"])
@pytest.mark.parametrize(
    "config",
    [
        {"_target_": "TARGET", "_partial_": True},
        {"_target_": "torch.nn.ReLU", "inplace": {"_target_": "TARGET", "_args_": ["true"]}},
        {"a": [{"b": [[{"_target_": "TARGET", "path": "os.system"}]]}]},
        {"_target_": "hydra.utils.get_object", "path": "TARGET"},
        {"_target_": "hydra.utils.instantiate", "config": {"_target_": "TARGET"}},
        {"_target_": "${x}", "x": "TARGET"},
    ],
)
def test_foreign_code_is_refused_wherever_it_stands(config: dict[str, object], target: str) -> None:
    text = OmegaConf.to_yaml(OmegaConf.create(config)).replace("TARGET", target)
    with pytest.raises(ConfigError, match="is refused"):
        check_targets(OmegaConf.create({"network": OmegaConf.create(text)}), "some run")


@pytest.mark.parametrize("key", ["defaults", "hydra"])
def test_a_saved_config_cannot_have_hydra_read_or_run_more(key: str) -> None:
    with pytest.raises(ConfigError, match=f"some run: {key} is refused"):
        check_targets(OmegaConf.create({key: ["evil"]}), "some run")


@pytest.mark.parametrize(
    "argument",
    [
        "+hydra.callbacks.x._target_=os.system",
        "network.encoder={_target_:os.system}",
        "network.encoder={'_target_': \"subprocess.Popen\"}",
        "hydra.searchpath=[/tmp/evil]",
        "--config-dir=/tmp/evil",
    ],
)
def test_a_saved_sweep_cannot_name_foreign_code(argument: str) -> None:
    check_arguments(["latent_size=2,3", "+callback.x._target_=vae.callback.finite.Finite"], "some sweep")
    with pytest.raises(ConfigError, match=r"some sweep: the argument .* is refused"):
        check_arguments([argument], "some sweep")


def test_a_saved_sweep_may_name_optunas_pruners_and_no_more_of_it() -> None:
    pytest.importorskip("optuna")
    check_arguments(["hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner"], "some sweep")
    with pytest.raises(ConfigError, match="RDBStorage may be foreign code"):
        check_arguments(["hydra.sweeper.pruner._target_=optuna.storages.RDBStorage"], "some sweep")


def test_nothing_is_unpickled_but_weights() -> None:
    calls = 0
    for file in (REPOSITORY / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = ast.unparse(node.func)
            assert not re.fullmatch(
                r"(c?[pP]ickle|dill|joblib|cloudpickle|marshal|shelve)\.(load|loads|open)", name
            ), file
            if name in ("torch.load", "trainer.fit", "trainer.test", "trainer.validate"):
                calls += 1
                options = {option.arg: option.value for option in node.keywords}
                if name == "torch.load" or "ckpt_path" in options:
                    assert ast.unparse(options["weights_only"]) == "True", f"{file}:{node.lineno}"
    assert calls > 3


def test_the_default_config_is_allowed(composed: Callable[..., DictConfig]) -> None:
    check_targets(composed(), "the default")


def test_a_saved_feature_network_of_ones_own_is_refused() -> None:
    config = OmegaConf.create({"metric": {"test": {"generation": {"features": "os:getcwd"}}}})
    with pytest.raises(ConfigError, match=r"metric\.test\.generation\.features=os:getcwd is refused"):
        check_targets(config, "some run")
