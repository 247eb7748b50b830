"""Which classes a config may name."""

import ast
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from commands import REPOSITORY
from vae.checks import ConfigError
from vae.run.trust import TRUST, check_targets, named, refusal, trusted, trusting


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "functools.partial",
        "joblib.load",
        "torch.load",
        "torch.hub.load",
        "torch.os.system",
        "torch.jit.load",
        "torch.nn.Module",
        "vae.command.command.os.system",
        "vae.run.directory.Path",
        "vae.run.checkpoint.torch.load",
        "vae.trained.load.load_model",
        "vae.run.directory.OmegaConf",
        "vae.metric.feature_network.OwnFeatures",
        "vae.feature.network.OwnFeatures",
        "vae.feature.network.Inception",
        "vae.sweep.pruning.Pruning",
        "torch.utils.cpp_extension.load",
        "torch.package.PackageImporter",
        "lightning.pytorch.cli.LightningCLI",
        "lightning.pytorch.callbacks.LambdaCallback",
        "lightning.pytorch.loggers.MLFlowLogger",
        "torch.optim.lr_scheduler.LambdaLR",
        "torchvision.datasets.MNIST",
        "hydra.utils.get_class",
        "vaeevil.Thing",
        "${x}",
        "",
        None,
        3,
        ["os.system"],
    ],
)
def test_what_is_not_on_the_list_is_refused_wherever_it_stands(target: object) -> None:
    for config in (
        {"network": {"layers": [{"encoder": {"_target_": target}}]}},
        {"network": {"a": [[{"b": {"_target_": target, "path": "os.system"}}]]}},
        {"optimizer": {"_target_": "torch.optim.Adam", "lr": {"_target_": target}}},
    ):
        with pytest.raises(ConfigError, match=r"some run: \S+_target_=.* is refused"):
            check_targets(config, "some run")


def test_a_class_stands_where_its_kind_does() -> None:
    check_targets({"optimizer": {"_target_": "torch.optim.Adam"}}, "some run")
    for config in (
        {"callback": {"x": {"_target_": "torch.optim.Adam"}}},
        {"note": {"_target_": "torch.optim.Adam"}},
        {"_target_": "torch.optim.Adam"},
    ):
        with pytest.raises(ConfigError, match="is refused"):
            check_targets(config, "some run")


def test_arguments_that_hide_their_names_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"callback\.best\._args_ is refused"):
        check_targets(
            {"callback": {"best": {"_target_": "lightning.pytorch.callbacks.Timer", "_args_": []}}}, "some run"
        )


def test_the_list_names_classes_that_are_there() -> None:
    from hydra.utils import get_class

    for group in ("data", "network", "prior", "callback", "logger", "metric", "optimizer", "scheduler"):
        for target in named(group) - {"torch.optim.Muon", "vae.sweep.pruning.Pruning"}:
            assert isinstance(get_class(target), type)


def test_the_default_config_is_allowed(composed: Callable[..., DictConfig]) -> None:
    config = OmegaConf.to_container(composed(), resolve=False)
    assert isinstance(config, dict)
    check_targets({str(key): value for key, value in config.items()}, "the default")


def test_a_saved_feature_network_of_ones_own_is_refused() -> None:
    config = {"metric": {"test": {"generation": {"features": "os:getcwd"}}}}
    with pytest.raises(ConfigError, match=r"metric\.test\.generation\.features=os:getcwd is refused"):
        check_targets(config, "some run")


PACKAGE = """
import torch
from torch import nn
open(__file__ + ".ran", "w").close()
class Encoder(nn.Module):
    pass
class Other:
    pass
def function():
    pass
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "someones_parts.py").write_text(PACKAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "someones_parts", raising=False)
    return tmp_path / "someones_parts.py.ran"


def test_code_of_a_package_does_not_run_before_it_is_trusted(package: Path) -> None:
    config = {"trust": ["someones_parts"], "network": {"encoder": {"_target_": "someones_parts.Encoder"}}}
    with pytest.raises(ConfigError, match=r"package someones_parts, .* trust=\[someones_parts\] does"):
        check_targets(config, "some run")
    assert not package.exists()
    with trusting(["someones_parts"]):
        check_targets(config, "some run")
    assert package.exists()
    with pytest.raises(ConfigError, match="is refused"):
        check_targets(config, "some run")


@pytest.mark.parametrize("name", ["Other", "function", "torch.load", "nn.Linear", "Nothing"])
def test_even_a_trusted_package_brings_only_classes_of_its_own_of_the_right_kinds(
    name: str, package: Path
) -> None:
    with trusting(["someones_parts"]):
        assert refusal(f"someones_parts.{name}", "network") is not None
        assert refusal("someones_parts.Encoder", "callback") is not None


def test_packages_are_trusted_by_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRUST, "first, second")
    assert {"first", "second"} <= trusted()
    with trusting(["third"]):
        assert {"first", "second", "third"} <= trusted()
    assert os.environ[TRUST] == "first, second"


def test_a_folder_that_python_searches_trusts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As may be the current one, into which somebody's run was unpacked."""
    from vae.run.trust import _installed

    about = tmp_path / "evil-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: evil\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[vae.components]\nevil = evil\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _installed.cache_clear()
    assert "evil" not in trusted()
    _installed.cache_clear()


@pytest.mark.parametrize("given", ["a b", "os.path", "../x", "-m"])
def test_only_packages_can_be_trusted(given: str) -> None:
    with pytest.raises(ConfigError, match="must be the names of packages"), trusting([given]):
        pass


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
