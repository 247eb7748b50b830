"""A saved config is data: whatever a stranger writes into it, none of it runs or writes elsewhere."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from vae import load_model
from vae.checks import ConfigError
from vae.run.directory import RunDirectory
from vae.run.files import check_folder, open_atomically, write_atomically
from vae.run.saved_config import check_arguments, read_plain, readers_data, resumed
from vae.run.trust import remember_folders

Change = Callable[[dict[str, Any]], None]


@pytest.fixture
def run(composed: Callable[..., DictConfig], tmp_path: Path) -> RunDirectory:
    """A run with its config, as it stands before its first checkpoint."""
    directory = RunDirectory(tmp_path)
    directory.write_config(composed("callback=top", "metric=full", "+features=null"))
    return directory


def change(run: RunDirectory, **entries: Any) -> None:
    """Write values into the saved config, as a stranger would."""
    config = yaml.safe_load(run.config_file.read_text())
    for path, value in entries.items():
        *parents, leaf = path.split("__")
        node = config
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = value
    run.config_file.write_text(yaml.safe_dump(config))


PAYLOADS = ["${oc.create:{_target_:os.system}}", "${oc.env:HOME}", "${seed}", "a ${now:%Y}", "\\${x}", "???"]


@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("key", ["corruption", "data__name", "data", "network__encoder__activation", "note"])
def test_nothing_is_left_to_be_resolved(payload: str, key: str, run: RunDirectory) -> None:
    change(run, **{key: payload})
    for read in (run.config, run.resumed_config, lambda: load_model(run.path)):
        with pytest.raises(ConfigError, match=r"what is saved has been resolved|not the config of a run"):
            read()


def test_a_key_is_no_interpolation_either(run: RunDirectory) -> None:
    change(run, **{"${seed}": 1})
    with pytest.raises(ConfigError, match="is refused"):
        run.config()


@pytest.mark.parametrize("key", ["defaults", "hydra"])
def test_a_saved_config_cannot_have_hydra_read_or_run_more(key: str, run: RunDirectory) -> None:
    change(run, **{key: ["evil"]})
    with pytest.raises(ConfigError, match=f"{key} is refused"):
        run.config()


@pytest.mark.parametrize("text", ["a\x1b[31mred", "\u202eevil", "\x00", "x" * 20_000, "a\rb"])
def test_text_that_would_write_on_a_terminal_is_refused(text: str, run: RunDirectory) -> None:
    change(run, name=text)
    with pytest.raises(ConfigError, match="is refused"):
        run.config()


@pytest.mark.parametrize(
    "text",
    [
        "data: &a {x: 1}\nb: *a\n",
        "data: {x: !!python/object/apply:os.system [true]}",
        "data: {x: !!python/object/apply:pathlib.PosixPath [/tmp]}",
        "data: {x: 2020-01-01}\nb: !!binary aGVsbG8=\n",
        "- a\n- b\n",
        "data: 3\n",
        "x" * 300_000,
        "[" * 5000,
    ],
)
def test_yaml_that_is_more_than_data_is_refused(text: str, run: RunDirectory) -> None:
    run.config_file.write_text(text)
    with pytest.raises(ConfigError) as refused:
        run.config()
    assert "\n" not in str(refused.value)


def test_a_header_of_hydras_moves_nothing(run: RunDirectory) -> None:
    """Hydra would put a config below the key that such a comment names, `hydra` for one."""
    before = run.config()
    run.config_file.write_text("# @package hydra.job_logging\n" + run.config_file.read_text())
    assert run.config() == before


LATER = [
    ("logger__wandb__settings__base_url", "http://evil"),
    ("logger__wandb__entity", "evil"),
    ("logger__wandb__id", "../../x"),
    ("logger__tracker", {"_target_": "lightning.pytorch.loggers.MLFlowLogger"}),
    ("logger__csv__path", "/elsewhere/metrics.csv"),
    ("logger__tensorboard__folder", "/elsewhere"),
    ("callback__pictures__folder", "/elsewhere"),
    ("callback__page__run", "/elsewhere"),
    ("callback__best__dirpath", "RUN/../elsewhere"),
    ("callback__best__filename", "../../elsewhere"),
    ("callback__top__dirpath", "/elsewhere"),
    ("trainer__default_root_dir", "/elsewhere"),
    ("trainer__plugins", ["evil"]),
    ("trainer__model_registry", "evil"),
    ("metric__test__generation__features", "/elsewhere/file.pt"),
]


@pytest.mark.parametrize(("key", "value"), LATER)
def test_what_a_resumed_run_writes_and_tells_is_up_to_its_reader(key: str, value: Any, run: RunDirectory) -> None:
    value = value.replace("RUN", str(run.path)) if isinstance(value, str) else value
    change(run, **{key: value})
    dotted = key.replace("__", ".")
    with pytest.raises(ConfigError, match="is refused"):
        run.resumed_config()
    if "_target_" not in str(value):
        assert run.config() is not None
        assert OmegaConf.select(run.resumed_config([dotted]), dotted) == value


def test_a_resumed_run_has_its_readers_places(
    run: RunDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = str(tmp_path / "nowhere")
    change(run, paths__cache="/elsewhere", paths__data=nowhere, paths__weights="/elsewhere", open=True)
    change(run, trust=["evil"], data__cache="/elsewhere", data__path=nowhere)
    monkeypatch.setenv("CACHE_DIR", str(tmp_path / "mine"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "images"))
    config = run.resumed_config()
    OmegaConf.resolve(config)
    assert config.paths == {
        "data": str(tmp_path / "images"),
        "cache": str(tmp_path / "mine"),
        "weights": "weights",
        "run": str(run.path),
    }
    assert config.data.cache == config.paths.cache
    assert config.data.path == config.paths.data
    assert config.trust == []
    assert not config.open
    assert not config.callback.page.open
    assert config.metric.test.generation.weights == "weights"
    assert config.callback.best.dirpath == str(run.path / "checkpoints")


def test_the_server_of_mlflow_is_the_readers(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    change(run, logger__mlflow={"run_name": "its", "id": "a1", "tracking_uri": "http://evil"})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mine")
    for loggers in (run.resumed_config().logger, run.loggers()):
        assert loggers.mlflow == {"run_name": "its", "id": "a1", "tracking_uri": "http://mine"}
    assert check_arguments(["logger.mlflow.tracking_uri=http://evil"], "some sweep") == []
    change(run, logger__mlflow__artifact_location="http://evil")
    for read in (run.resumed_config, run.loggers):
        with pytest.raises(ConfigError, match=r"logger\.mlflow\.artifact_location=.* is refused"):
            read()


def test_loggers_of_others_are_left_out_of_what_an_evaluation_adds_to(run: RunDirectory) -> None:
    change(run, logger__other={"_target_": "vae.logger.metrics_csv.MetricsCSV"}, logger__wandb__mode=None)
    assert set(run.loggers()) == {"csv", "wandb"}
    assert run.loggers().csv.path == str(run.path / "metrics.csv")


@pytest.mark.parametrize("data", ["mnist", "cifar10", "omniglot", "celeba"])
def test_nothing_is_downloaded_or_decoded_into_a_folder_that_a_run_names(
    data: str, composed: Callable[..., DictConfig], tmp_path: Path
) -> None:
    """A set that is not there is downloaded, and images are decoded into a cache: into the reader's folders."""
    config = composed(f"data={data}")
    OmegaConf.resolve(config)
    saved = OmegaConf.to_container(config)
    assert isinstance(saved, dict)
    theirs = str(tmp_path / "theirs")
    plain = {str(key): value for key, value in saved.items()}
    for recorded in (theirs, "elsewhere"):
        plain["paths"] |= {"data": recorded, "cache": theirs}
        plain["data"] |= {"path": theirs} | ({"cache": theirs} if "cache" in plain["data"] else {})
        assert theirs not in readers_data(plain).values()
        own = readers_data(plain, images="mine", cache="my cache")
        assert own["path"] == "mine"
        assert own.get("cache", "my cache") == "my cache"
        assert theirs not in OmegaConf.to_yaml(resumed(plain, tmp_path, "a run").data)
    (tmp_path / "theirs").mkdir()
    assert readers_data(plain)["path"] == theirs


def test_the_model_is_loaded_from_its_own_part_of_the_config(run: RunDirectory) -> None:
    """So that what stands elsewhere, such as a callback of another version, does not matter."""
    change(run, callback={"x": {"_target_": "os.system"}}, logger={"y": {"_target_": "os.system"}})
    with pytest.raises(ConfigError, match="no such checkpoint"):
        load_model(run.path)
    with pytest.raises(ConfigError, match="is refused"):
        run.config()


@pytest.mark.parametrize(
    "argument",
    [
        "+hydra.callbacks.x._target_=os.system",
        "+hydra.hydra_logging.handlers={x:{\\(\\):joblib.load,filename:x}}",
        "hydra.job_logging.handlers.file.class=joblib.load",
        "hydra/job_logging=stdout",
        "+hydra.job.env_set.PYTHONPATH=/tmp",
        "hydra.launcher.setup=[touch /tmp/x]",
        "hydra.launcher._target_=os.system",
        "hydra/launcher={_target_:os.system}",
        "+hydra.launcher.ray.init.address=evil",
        "hydra.sweeper.sampler._target_=os.system",
        "hydra.sweeper.pruner={_target_:optuna.storages.RDBStorage}",
        "hydra.sweeper.params.prior={_target_:os.system}",
        "hydra.searchpath=[/tmp/evil]",
        "network.encoder={_target_:os.system}",
        "network.encoder={'_target_': \"subprocess.Popen\"}",
        "network={a:[{_target_:os.system}]}",
        "network.encoder._target_=os.system,os.getcwd",
        "corruption=${oc.create:{a:1}}",
        "corruption='${oc.create:{a:1}}'",
        "latent_size=${oc.env:WANDB_API_KEY}",
        "network=../../evil",
        "network=/etc/evil",
        "data@hydra.launcher=digits",
        "likelihood@prior=gaussian",
        "+objective/beta=../evil",
        "experiment=[../evil]",
        "logger.wandb.settings.base_url=http://evil",
        "logger.csv.path=/elsewhere",
        "logger={mlflow:{tracking_uri:http://evil}}",
        "hydra.searchpath=[pkg://evil]",
        "hydra.searchpath=[file:///elsewhere]",
        "callback.pictures.folder=/elsewhere",
        "callback={pictures:{folder:/elsewhere}}",
        "trainer.default_root_dir=/elsewhere",
        "+trainer.plugins=[evil]",
        "paths.run=/elsewhere",
        "paths={run:/elsewhere}",
        "data.cache=/elsewhere",
        "sweep.jobs=['prior._target_=os.system']",
        "~hydra.job_logging",
        "--config-dir",
        "-m",
        "no override",
        "name=\x1b[31m",
        3,
    ],
)
def test_a_saved_argument_is_a_key_of_the_config_with_a_plain_value(argument: object) -> None:
    with pytest.raises(ConfigError, match=r"some sweep: the argument .* is refused") as refused:
        check_arguments([argument], "some sweep")
    assert str(refused.value).isprintable()


def test_what_honest_sweeps_say_is_allowed() -> None:
    honest = [
        *("latent_size=2,3", "seed=range(5)", "likelihood.sigma=tag(log,interval(0.03,1))", "prior=vamp"),
        *(
            "+callback.x._target_=vae.callback.finite.Finite",
            "network.hidden_sizes=[64],[32,32]",
            "experiment=iwae",
        ),
        *("hydra/launcher=joblib", "hydra.launcher.n_jobs=2", "hydra/sweeper=optuna", "hydra.sweeper.n_trials=3"),
        *("hydra.sweeper.pruner._target_=optuna.pruners.ThresholdPruner", "hydra.sweeper.pruner.n_warmup_steps=2"),
        *("~hydra.sweeper.pruner.n_startup_trials", "+hydra.launcher.ray.init.num_cpus=2"),
        *("objective/beta=linear", "~callback.page", "logger.wandb.project=mine", "trainer.max_epochs=3"),
        *("hydra.sweeper.objectives=[minimize val/nll]", "sweep.jobs=['prior=vamp latent_size=2']"),
        *("name='my sweep'", "trainer.gradient_clip_val=null", "optimizer.lr=1e-3", "hydra.mode=MULTIRUN"),
        "+callback.stop={_target_:lightning.pytorch.callbacks.EarlyStopping,monitor:val/elbo,mode:max,patience:3}",
    ]
    assert check_arguments(honest, "some sweep") == honest


def test_what_the_reader_answers_himself_is_left_out() -> None:
    saved = ["latent_size=2", "paths.cache=/elsewhere", "hydra.sweep.dir=/elsewhere", "trust=[evil]"]
    assert check_arguments([*saved, "logger.wandb.entity=x"], "some sweep", ["logger.wandb.entity"]) == saved[:1]


def test_a_folder_of_configs_is_taken_if_its_reader_has_named_it_before(tmp_path: Path) -> None:
    saved = [f"--config-dir={tmp_path}", "latent_size=2"]
    with pytest.raises(ConfigError, match=f"type --config-dir={tmp_path} if you trust it"):
        check_arguments(saved, "some sweep")
    assert check_arguments(saved, "some sweep", ["--config-dir"]) == saved[1:]
    remember_folders([str(tmp_path), str(tmp_path / "gone")])
    assert check_arguments(saved, "some sweep") == saved
    with pytest.raises(ConfigError, match="is not there"):
        check_arguments([f"--config-dir={tmp_path / 'gone'}"], "some sweep")


# Files


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    (tmp_path / "summary.csv").symlink_to(mine)
    (tmp_path / "report.html.partial").symlink_to(mine)
    with pytest.raises(ConfigError, match="is a link"):
        write_atomically(tmp_path / "summary.csv", "theirs")
    write_atomically(tmp_path / "report.html", "theirs")
    with pytest.raises(ZeroDivisionError), open_atomically(tmp_path / "new") as file:
        file.write(bytes(1 // 0))
    assert mine.read_text() == "mine"
    assert {path.name for path in tmp_path.iterdir()} == {
        "mine",
        "summary.csv",
        "report.html",
        "report.html.partial",
    }


def test_the_name_of_a_file_that_is_being_written_cannot_be_foreseen(tmp_path: Path) -> None:
    names = set()
    for _ in range(3):
        with open_atomically(tmp_path / "file"):
            names |= {path.name for path in tmp_path.iterdir()} - {"file"}
    assert len(names) == 3
    assert all(name.startswith("file.") and name.endswith(".partial") for name in names)


@pytest.mark.parametrize("where", ["images", "checkpoints/best.ckpt", ".hydra/config.yaml.partial", "a/b/c"])
def test_a_folder_with_links_in_it_is_refused(where: str, tmp_path: Path) -> None:
    folder, mine = tmp_path / "run", tmp_path / "mine"
    mine.mkdir()
    (folder / where).parent.mkdir(parents=True)
    check_folder(folder)
    (folder / where).symlink_to(mine)
    with pytest.raises(ConfigError, match="may lead out of the folder"):
        check_folder(folder)


def test_a_folder_that_says_where_wandb_sends_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "latest-run").symlink_to("/elsewhere")
    (tmp_path / "wandb" / "offline-run" / "logs").mkdir(parents=True)
    (tmp_path / "wandb" / "offline-run" / "logs" / "debug-core.log").symlink_to("/elsewhere")
    check_folder(tmp_path)
    (tmp_path / "wandb" / "settings").write_text("[default]\nbase_url = http://evil\n")
    with pytest.raises(ConfigError, match="where W&B sends a run"):
        check_folder(tmp_path)


def test_read_plain_reads_what_write_config_wrote(run: RunDirectory) -> None:
    assert read_plain(run.config_file) == OmegaConf.to_container(OmegaConf.load(run.config_file))


def test_what_wandb_leaves_in_a_run_is_no_link_to_be_afraid_of(tmp_path: Path) -> None:
    import wandb

    with wandb.init(project="x", dir=tmp_path, mode="offline", settings=wandb.Settings(silent=True)) as run:
        run.log({"a": 1})
    assert any(path.is_symlink() for path in (tmp_path / "wandb").rglob("*"))
    check_folder(tmp_path)


def test_decoded_images_of_the_readers_own_are_not_decoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = {"data": {"_target_": "vae.data.celeba.CelebA", "path": "there", "cache": str(tmp_path)}}
    # A stranger's config may name any folder.
    assert readers_data(plain)["cache"] != str(tmp_path)
    (tmp_path / "celeba-64x64x3-0123456789ab.images").touch()
    assert readers_data(plain)["cache"] == str(tmp_path)
    assert readers_data(plain, cache="mine")["cache"] == "mine"
    with monkeypatch.context() as patch:
        patch.setattr("os.getuid", lambda: -1)
        assert readers_data(plain)["cache"] != str(tmp_path)
    monkeypatch.setenv("CACHE_DIR", "elsewhere")
    assert readers_data(plain)["cache"] != str(tmp_path)
