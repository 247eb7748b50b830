"""What every key may be: held against conf/, the signatures of classes, and what components refuse themselves."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.utils import _locate
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from commands import REPOSITORY, call_command, run_command
from test_conf import OPTIONS, override_of
from vae.checks import Choice, ConfigError, Either, Kind, ListOf, Number, Several, Whole
from vae.command.keys import ARGUMENTS, COMMANDS, FURTHER, Component, Group, Members, Network
from vae.command.schema import check_composed
from vae.command.signature import signature
from vae.metric.evaluated_batch import Sizes
from vae.paths import CONF
from vae.run.trust import LIBRARIES, SPECIAL

NEEDED = {"data/image_folder": ["data.path=images"]}
"""What conf/ leaves to who chooses an option."""


@pytest.fixture(scope="module")
def configs() -> dict[str, tuple[str, DictConfig]]:
    """The config of each option of conf/, and of each further command: the command's name and the config."""
    found = {}
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for option in OPTIONS:
            more = NEEDED.get(option, [])
            overrides = [*override_of(option), *more, "paths.run=run", "name=test"]
            found[option] = ("train", compose("train", overrides))
        for command, overrides in {
            "evaluate": ["run=x"],
            "sample": ["run=x"],
            "features": [],
            "baselines": [],
            "reproduce": ["table=burda"],
            "table": ["runs=x"],
            "export": ["run=x"],
        }.items():
            found[command] = (command, compose(command, overrides))
    return found


def described(node: DictConfig, kind: Kind, path: str = "") -> Iterator[tuple[str, Kind | None]]:
    """Every key of a config with the kind that vae.command.keys has of it; an argument under its class's name."""
    parts = kind.kinds if isinstance(kind, Either) else (kind,)
    for key in node:
        name, below = f"{path}.{key}" if path else str(key), None
        for part in parts:
            match part:
                case Group(keys, further):
                    below = keys.get(key) or (further or {}).get(key) or below
                case Members(each):
                    below = each
                case Network(encoder, decoder):
                    targets = [node[side]["_target_"] for side in ("encoder", "decoder")]
                    of = [ARGUMENTS[target] for target in targets]
                    below = {"encoder": encoder, "decoder": decoder}.get(key) or of[0].get(key) or of[1].get(key)
                case Component(target=fixed):
                    target = fixed or str(node.get("_target_"))
                    name = f"{target}:{key}"
                    below = ARGUMENTS.get(target, {}).get(key) or FURTHER.get(target, {}).get(key)
                    if target not in ARGUMENTS and (takes := signature(target)) is not None:
                        below = takes.arguments.get(str(key))
        if key in SPECIAL or (key == "hydra" and not path):
            continue
        yield name, below
        value = node[key]
        if below is not None and isinstance(value, DictConfig):
            yield from described(value, below, name)


def test_every_key_of_conf_is_described_and_allowed(configs: dict[str, tuple[str, DictConfig]]) -> None:
    for option, (command, config) in configs.items():
        check_composed(config, command)
        unknown = [name for name, kind in described(config, COMMANDS[command]) if kind is None]
        assert unknown == [], option


def test_everything_that_is_described_stands_in_conf(configs: dict[str, tuple[str, DictConfig]]) -> None:
    seen = {
        (command, name) for command, config in configs.values() for name, _ in described(config, COMMANDS[command])
    }
    names = {name for _, name in seen}
    arguments = {f"{target}:{key}" for target, kinds in ARGUMENTS.items() for key in kinds}
    arguments -= {key for key in arguments if key.startswith("vae.logger.wandb_run.WandbRun:settings.")}
    assert arguments <= names
    for command, group in COMMANDS.items():
        assert isinstance(group, Group)
        assert set(group.keys) <= {name for of, name in seen if of == command}


GIVEN = {
    "network": {"image_shape", "latent_size", "param_shape"},
    "posterior": {"features", "latent_size"},
    "prior": {"latent_size", "image_shape"},
    "likelihood": {"image_shape"},
    "metric": {"sizes"},
}
OURS = [
    target
    for target in ARGUMENTS
    if target.startswith("vae.") and target.split(".")[1] not in ("logger", "training")
]


@pytest.mark.parametrize("target", OURS)
def test_the_arguments_of_our_classes_are_described_all(target: str) -> None:
    takes = signature(target)
    assert takes is not None
    own = {*ARGUMENTS[target], *FURTHER.get(target, {})}
    if target in ("vae.callback.top.Top", "vae.callback.ema.EMA"):
        assert own <= takes.arguments.keys()  # Lightning's
    else:
        assert own == takes.arguments.keys() - GIVEN.get(target.split(".")[1], set())


@pytest.mark.parametrize("target", sorted({*ARGUMENTS, *(c for group in LIBRARIES.values() for c in group)}))
def test_a_signature_that_is_read_from_the_source_is_pythons(target: str) -> None:
    if target.startswith(("optuna", "vae.sweep")):
        pytest.importorskip("optuna")
    found = inspect.signature(_locate(target)).parameters
    named = {name for name, each in found.items() if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)}
    takes = signature(target)
    assert takes is not None
    assert named <= takes.arguments.keys()
    if not any(each.kind == each.VAR_KEYWORD for each in found.values()):
        assert named == takes.arguments.keys()
        assert takes.required == {name for name in named if found[name].default is inspect.Parameter.empty}
    assert {*ARGUMENTS.get(target, ()), *FURTHER.get(target, ())} <= takes.arguments.keys()


def samples(kind: Kind) -> tuple[list[Any], list[Any]]:
    """Values at the bounds of a kind, and some just beyond them."""
    match kind:
        case Whole(minimum, _):
            return [minimum], [minimum - 1, minimum + 0.5, "words", None, float("nan")]
        case Number(above, minimum, below, maximum):
            good = [bound for bound in (minimum, maximum) if bound is not None]
            bad = [bound for bound in (above, below) if bound is not None]
            bad += [minimum - 1e-6] if minimum is not None else []
            bad += [maximum + 1e-6] if maximum is not None else []
            return good or [(above or 0) + 1e-3], [*bad, "words", float("nan"), float("inf")]
        case Choice(values):
            return list(values), ["words", -7]
        case ListOf(each, length, least):
            good, bad = samples(each)
            size = length or 1
            return [[one] * size for one in good], [[one] * size for one in bad] + (["words"] if least else [])
        case Several(each):
            return samples(each)
        case Either(kinds):
            pairs = [samples(part) for part in kinds]
            bad = [value for _, values in pairs for value in values if not kind.accepts(value)]
            return [value for values, _ in pairs for value in values], bad
    return [], []


SIZES = Sizes((1, 8, 8), 4, discrete=False, data_name="digits", has_density=True, codes=0, deterministic=False)
CALLED: dict[str, Callable[[Any], Any]] = {
    "likelihood": lambda make: make((1, 8, 8)),
    "posterior": lambda make: make(16, 4),
    "prior": lambda make: make(4, (1, 8, 8)),
    "metric": lambda make: make(SIZES),
}


def build(target: str, node: dict[str, Any]) -> None:
    """Make the object of a node of a config, as the program does."""
    made = instantiate(OmegaConf.create({"node": node})).node
    if target.endswith("Encoder"):
        made((1, 8, 8))
    elif target.endswith("Decoder"):
        made(4, (1, 8, 8))
    elif isinstance(made, partial):
        CALLED[target.split(".")[1]](made)


@pytest.fixture(scope="module")
def nodes(configs: dict[str, tuple[str, DictConfig]]) -> dict[str, dict[str, Any]]:
    """Of each of our classes the resolved node of a config that makes one."""
    found: dict[str, dict[str, Any]] = {}

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            if str(node.get("_target_", "")).startswith("vae."):
                found.setdefault(node["_target_"], node)
            for each in node.values():
                walk(each)

    for _, config in configs.values():
        walk(OmegaConf.to_container(config, resolve=True))
    return found


FITTING: dict[str, dict[str, Any]] = {
    "vae.network.spatial.SpatialEncoder": {"grid": [2, 2]},
    "vae.network.spatial.SpatialDecoder": {"grid": [2, 2]},
    "vae.posterior.finite_scalar.FiniteScalar": {"grid": None},
    "vae.posterior.spatial_gaussian.SpatialGaussian": {"grid": [2, 2]},
    "vae.posterior.vector_quantized.VectorQuantized": {"grid": None},
}
"""Arguments that fit the sizes here."""
TOGETHER = {
    "classes": "of one latent, with posterior=exact",
    "batch_size": "auto is found out before",
    "max_width": "at least base_width",
    "depth": "at most what the image's sides allow",
    "grid": "what gives latent_size places",
    "min_sigma": "below init_sigma",
    "init_sigma": "above min_sigma",
    "min_scale": "below init_scale",
    "init_scale": "above min_scale",
    "min_beta": "at most start",
    "max_beta": "at least start",
    "start": "from min_beta to max_beta",
    "val_fraction": "with test_fraction below 1",
    "test_fraction": "with val_fraction below 1",
}
"""Arguments whose bounds depend on others, so that a value at the bound of its own may be refused."""
NOT_THEIRS = {
    "vae.metric.feature_distance.Generation": "it needs a file of weights",
    "vae.logger.wandb_run.WandbRun": "W&B checks what it is given when a run begins",
    "vae.callback.top.Top": "Lightning checks some",
    "vae.callback.ema.EMA": "Lightning checks some",
}
"""Classes whose arguments are another library's, or that cannot be made here."""


@pytest.mark.parametrize("target", [target for target in OURS if target not in NOT_THEIRS])
def test_a_component_refuses_what_its_description_refuses_and_nothing_else(
    target: str, nodes: dict[str, dict[str, Any]]
) -> None:
    accepted, refused = [], []
    for key, kind in ARGUMENTS[target].items():
        good, bad = samples(kind)
        for value in [*good, *bad]:
            try:
                build(target, {**nodes[target], **FITTING.get(target, {}), key: value})
            except Exception as error:  # a ConfigError, or in tests the check of types
                if kind.accepts(value) and key not in TOGETHER:
                    refused.append((key, value, str(error).splitlines()[0]))
            else:
                if not kind.accepts(value):
                    accepted.append((key, value))
    assert (accepted, refused) == ([], [])


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (["optimizer.betas=[0.9]"], "optimizer.betas=[0.9]: must be a list of 2 in brackets, each a number of a"),
        (["scheduler=step", "scheduler.step_size=0"], "scheduler.step_size=0: must be a whole number of at leas"),
        (["trainer.check_val_every_n_epoch=0"], "trainer.check_val_every_n_epoch=0: must be a whole number of at"),
        (["~prior"], "prior=null: must be one of autoregressive, categorical"),
        (["~trainer.max_epochs"], "trainer.max_epochs: must be given, as a whole number of at least -1"),
        (["+callback.x=5"], "callback.x=5: must be null or a callback, with its class as {_target_: …}"),
        (["+callback.x={patience:3}"], "callback.x._target_=null: must be the full name of a class"),
        (["optimizer.lr=true"], "optimizer.lr=true: must be a number of at least 0"),
        (["optimizer.lr=nan"], "optimizer.lr=nan: must be a number of at least 0"),
        (["optimizer.lr=1e400"], "optimizer.lr=inf: must be a number of at least 0"),
        (["trainer.gradient_clip_val=-1"], "trainer.gradient_clip_val=-1: must be null or a number of at least 0"),
        (["trainer.deterministic=maybe"], "trainer.deterministic=maybe: must be one of true, false, warn"),
        (["trainer.precision=64-true"], "trainer.precision=64-true: must be one of 32-true, bf16-mixed, 16-mixed"),
        (["trainer.precision=bf16-true"], "trainer.precision=bf16-true: must be one of 32-true, bf16-mixed, 16-"),
        (["trainer.precision=16-true"], "trainer.precision=16-true: must be one of 32-true, bf16-mixed, 16-mixed"),
        (["trainer.strategy=ddp_spawn"], "trainer.strategy=ddp_spawn: must be one of auto, ddp"),
        (["trainer.max_epochs=1.5"], "trainer.max_epochs=1.5: must be a whole number of at least -1"),
        (["sweep.dry_run=maybe"], "sweep.dry_run=maybe: must be true or false"),
        (["seed=-1"], "seed=-1: must be a whole number of at least 0"),
        (["trainer.devices=ab"], "trainer.devices=ab: must be auto, a whole number of at least 1, -1, a li"),
        (["data.batch_size=0"], "data.batch_size=0: must be auto or a whole number of at least 1"),
        (["likelihood.sigma=abc"], "likelihood.sigma=abc: must be a number above 0"),
        (["latent_size=${seed}"], "latent_size=0: must be a whole number from 1 to 1048576"),
        (["latent_size=${nowhere}"], "latent_size=${nowhere}: must be a whole number from 1 to 1048576 (it cann"),
        (["suits.latent_size=0"], "suits.latent_size=0: must be a whole number from 1 to 1048576"),
        (["network.hidden_sizes=[0]"], "network.hidden_sizes=[0]: must be a list in brackets, each a whole numb"),
        (["objective/beta=linear", "objective.beta.steps=0"], "objective.beta.steps=0: must be a whole number o"),
        (["+trainer.limit_train_batchs=1"], "trainer.limit_train_batchs=1: no such key; did you mean trainer.li"),
        (["+optimizer.amsgrd=true"], "optimizer.amsgrd=true: no such key; did you mean optimizer.amsgrad?"),
        (["+optimizer.amsgrad=7"], "optimizer.amsgrad=7: must be true or false"),
        (["+optimizer.params=7"], "optimizer.params=7: no such key"),
        (["+network.width=7"], "network.width=7: no such key (network has activation, decoder, encoder"),
        (["+note.a.b=7"], "note.a.b=7: no such key"),
        (["optimizer._partial_=false"], "optimizer._partial_=false: must be true"),
        (["prior._target_=vae.prior.vamp.Vam"], "prior._target_=vae.prior.vamp.Vam: is refused: the classes that"),
        (["logger=wandb", "+logger.wandb.settings.silnt=1"], "logger.wandb.settings.silnt=1: no such key; did y"),
        (
            ["+scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau"],
            "scheduler._target_=torch.optim.lr_scheduler.ReduceLROnPlateau: must be a class whose learning rate",
        ),
        (
            ["+callback.stop={_target_:lightning.pytorch.callbacks.EarlyStopping,patience:3}"],
            "callback.stop.monitor: must be given, as text",
        ),
    ],
)  # fmt: skip
def test_bad_input_is_named_with_its_value_and_what_is_allowed(
    overrides: list[str], line: str, composed: Callable[..., DictConfig]
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_composed(composed(*overrides), "train")
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "overrides",
    [
        ["metric.val.active_units=null"],
        ["+features=null", "metric=full", "~metric.test.probe"],
        ["+trainer.max_time={days:9}"],
        ["+trainer.max_time=00:00:20:00", "+trainer.limit_val_batches=0.5", "trainer.devices=[0,1]"],
        ["+optimizer.maximize=true", "~optimizer.fused"],
        ["+callback.stop={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val/elbo,patience:3}"],
        ["objective.beta=4", "compile=true"],
        ["+suits.my_number=3"],
    ],
)
def test_what_can_be_is_let_through(overrides: list[str], composed: Callable[..., DictConfig]) -> None:
    check_composed(composed(*overrides), "train")


@pytest.mark.parametrize(
    ("module", "arguments", "line"),
    [
        ("vae.train", ["seed=-1"], "error: seed=-1: must be a whole number of at least 0"),
        ("vae.train", ["-m", "latent_size=2,0"], "error: latent_size=0: must be a whole number from 1 to 1048576"),
        ("vae.train", ["-m", "sweep.dry_run=maybe", "seed=1,2"], "error: sweep.dry_run=maybe: must be true or f"),
        ("vae.train", ["~data"], "error: ~data: must be one of celeba, cifar10, digits"),
        ("vae.train", ["data=[digits,mnist]"], "error: data=[digits,mnist]: must be one of celeba, cifar10, dig"),
        ("vae.train", ["prior=7"], "error: prior=7: must be one of autoregressive, categorical"),
        ("vae.train", ["network="], "error: network=: must be one of conv, gated_mlp, mlp"),
        ("vae.train", ["latent_size=1,2"], "error: latent_size=1,2: must be one value; several make a sweep, wi"),
        ("vae.train", ["name=${nosuch:1}"], "error: name=${nosuch:1}: must be a value, or ${key} of a key"),
        ("vae.train", ["hydra.run.dir=/proc/nowhere"], "error: hydra.run.dir=/proc/nowhere: must be a place tha"),
        ("vae.evaluate", ["run=x", "k=0"], "error: k=0: must be a whole number of at least 1"),
        ("vae.evaluate", ["run=x", "+trainer.devcies=2"], "error: trainer.devcies=2: no such key; did you mean "),
        ("vae.sample", ["run=x", "show=dreams"], "error: show=dreams: must be one of means, samples"),
        ("vae.sample", [], "error: run=null: must be a run directory"),
        ("vae.features", ["steps=0"], "error: steps=0: must be a whole number of at least 1"),
        ("vae.baselines.__main__", ["sigma=0"], "error: sigma=0: must be a number above 0"),
        ("vae.reproduce", ["table=burda", "seeds=[]"], "error: seeds=[]: must be a list of one or more in brack"),
        ("vae.reproduce", ["table=burda", "seeds=[-1]"], "error: seeds=[-1]: must be a list of one or more in b"),
    ],
)  # fmt: skip
def test_a_command_says_so_and_writes_nothing(
    module: str, arguments: list[str], line: str, tmp_path: Path
) -> None:
    done = call_command(module, *arguments, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_value_is_refused_before_torch_is_imported(tmp_path: Path) -> None:
    program = "import sys; import vae.train as t; sys.argv[1:] = ['optimizer.lr=true']\n"
    program += "try: t.main()\nfinally: print('torch' in sys.modules)"
    done = run_command("-c", program, folder=tmp_path, PYTHONPATH=str(REPOSITORY / "src"))
    assert (done.returncode, done.stdout) == (1, "False\n")
    assert done.stderr == "error: optimizer.lr=true: must be a number of at least 0\n"
