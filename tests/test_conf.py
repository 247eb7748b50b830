"""Every file under conf/ is found, composed into a run, and instantiated; a forgotten one fails.

That each composes and resolves is in tests/command/test_schema.py, beside what its keys may be.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
from hydra.utils import instantiate
from omegaconf import DictConfig

from vae.paths import CONF
from vae.training.build import brought, build_model, build_module, build_trainer

# Options that do not go with the defaults, or want a file that a fresh clone has not (a feature network).
NEEDS: dict[str, list[str]] = {
    "metric/full": ["~metric.test.generation"],
    "posterior/categorical": ["prior=uniform"],
    "network/spatial": ["network.grid=[4,4]", "latent_size=16"],
    "network/unconditional": ["posterior=independent"],
    "posterior/delta": ["objective=reconstruction"],
    "posterior/exact": ["prior=categorical", "latent_size=1", "network.hidden_sizes=[]"],
    "posterior/finite_scalar": ["prior=uniform"],
    "posterior/independent": ["network=unconditional"],
    "posterior/vector_quantized": ["prior=uniform"],
    "posterior/spatial_gaussian": ["network=spatial", "network.grid=[4,4]", "latent_size=32"],
    "prior/autoregressive": ["posterior=vector_quantized"],
    "prior/categorical": ["posterior=categorical"],
    "prior/uniform": ["posterior=categorical"],
}
OPTIONS = sorted(
    str(file.relative_to(CONF).with_suffix(""))
    for file in CONF.glob("*/**/*.yaml")
    if file.relative_to(CONF).parts[0] not in ("hydra", "reproduce")  # tables have tests/reproduction
)


def override_of(option: str) -> list[str]:
    group, _, name = option.rpartition("/")
    return [f"{group}={name}", *NEEDS.get(option, [])]


def test_there_are_options() -> None:
    assert len(OPTIONS) > 15


@pytest.mark.parametrize("option", [o for o in OPTIONS if not o.startswith(("data/", "trainer/", "logger/"))])
def test_option_builds_a_module(option: str, composed: Callable[..., DictConfig]) -> None:
    config = composed(*override_of(option))
    module = build_module(config, instantiate(config.data))
    assert sum(p.numel() for p in module.parameters()) > 0


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith("data/")])
def test_data_option_declares_its_image_shape(option: str, composed: Callable[..., DictConfig]) -> None:
    config = composed(*override_of(option))
    shape = instantiate(config.data).image_shape
    assert len(shape) == 3
    assert build_model(config, shape).image_shape == shape


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith(("trainer/", "callback/"))])
def test_option_builds_a_trainer(option: str, composed: Callable[..., DictConfig]) -> None:
    config = composed(*override_of(option), "logger=csv")
    assert build_trainer(config).max_epochs is not None


@pytest.mark.parametrize("option", [o for o in OPTIONS if o.startswith("logger/")])
def test_logger_option_instantiates(
    option: str, composed: Callable[..., DictConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A database would be made where the tests run.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    if option in ("logger/tensorboard", "logger/mlflow"):
        pytest.importorskip(option.removeprefix("logger/"))
    assert isinstance(instantiate(composed(*override_of(option)).logger), DictConfig)


SETS = sorted(file.stem for file in (CONF / "data").glob("*.yaml"))


def _chosen(composed: Callable[..., DictConfig], *overrides: str) -> tuple[str, int, float | None, int]:
    config = composed(*overrides)
    network = config.network.encoder["_target_"].rpartition(".")[2].removesuffix("Encoder")
    return network, config.latent_size, config.likelihood.get("sigma"), config.data.batch_size


def test_each_set_brings_what_it_needs(composed: Callable[..., DictConfig]) -> None:
    assert sorted(file.stem for file in (CONF / "for_data").glob("*.yaml")) == sorted([*SETS, "any"])
    assert _chosen(composed) == ("MLP", 6, 0.15, 64)
    assert _chosen(composed, "data=mnist") == ("MLP", 16, 0.15, 128)
    assert _chosen(composed, "data=celeba") == ("Conv", 64, 0.1, 64)


@pytest.mark.parametrize("name", SETS)
def test_what_is_typed_beats_what_a_set_brings(name: str, composed: Callable[..., DictConfig]) -> None:
    typed = ["network=resnet", "latent_size=7", "likelihood.sigma=0.7", "data.batch_size=9"]
    for overrides in ([f"data={name}", *typed], [*typed, f"data={name}"]):
        assert _chosen(composed, *overrides) == ("ResNet", 7, 0.7, 9)
    assert "sigma" not in composed(f"data={name}", "likelihood=bernoulli").likelihood
    assert "hidden_sizes" not in composed(f"data={name}", "network=resnet").network


def test_an_experiment_beats_what_a_set_brings(composed: Callable[..., DictConfig]) -> None:
    assert _chosen(composed, "experiment=rae_vae") == ("Conv", 16, 0.395, 100)
    assert _chosen(composed, "experiment=aevb") == ("MLP", 20, None, 100)
    assert _chosen(composed, "experiment=aevb", "data=celeba") == ("Conv", 20, None, 100)


@pytest.mark.parametrize("name", SETS)
def test_a_budget_scales_epochs_and_images(name: str, composed: Callable[..., DictConfig]) -> None:
    found = [composed(f"data={name}", f"budget={budget}") for budget in ("short", "normal", "long")]
    epochs = [config.trainer.max_epochs for config in found]
    assert epochs == sorted(set(epochs))
    images = [config.data.train_images or 10**9 for config in found]
    assert images == sorted(images)
    assert composed(f"data={name}", "budget=long", "trainer.max_epochs=3").trainer.max_epochs == 3
    swept = composed(f"data={name}", "sweep=latent_k_sigma", "budget=normal")
    assert swept.trainer.max_epochs < epochs[1]


def test_a_set_of_ones_own_brings_what_any_does(composed: Callable[..., DictConfig], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "squares.yaml").write_text((CONF / "data" / "digits.yaml").read_text())
    search = f"hydra.searchpath=[file://{tmp_path}]"
    assert _chosen(composed, search, "data=squares") == ("MLP", 6, 0.15, 64)


def test_the_line_on_what_a_set_brings_leaves_out_what_is_typed(composed: Callable[..., DictConfig]) -> None:
    config = composed("data=celeba", "latent_size=7")
    choices = {"data": "celeba", "network": "conv", "likelihood": "gaussian"}
    assert brought(config, choices, ["data=celeba", "++latent_size=7"]) == (
        "data=celeba and budget=short bring network=conv, likelihood=gaussian, likelihood.sigma=0.1,"
        " data.batch_size=64, data.train_images=6000, trainer.max_epochs=20"
    )
