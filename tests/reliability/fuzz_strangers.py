"""Runs and sweeps of strangers: thousands of hostile changes, none of which has an effect, by Python's audit hook.

python -m reliability.fuzz_strangers [mutants=10000] [seed=0]

Each mutant is a run or a sweep into one of whose files something was written that a stranger might try. It is
read, loaded, resumed up to the first step of training, or reported, in this process, while a hook sees every file
that is opened or changed, every import and every piece of code, socket and program. What an honest run does is
learnt first.
"""

import contextlib
import copy
import io
import json
import os
import random
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from reliability.fuzz_readers import mutate
from vae import load_model
from vae.checks import ConfigError
from vae.command.command import quiet_libraries
from vae.page.run_page import write_run_page
from vae.paths import CONF
from vae.run.checkpoint import SealedCheckpoints
from vae.run.directory import RunDirectory
from vae.sweep.directory import SweepDirectory
from vae.sweep.plan import make_job
from vae.sweep.report.write import write_report
from vae.sweep.resume import resume_arguments
from vae.training.build import build_model, build_module, build_trainer

TINY = [
    *("name=honest", "network.hidden_sizes=[8]", "latent_size=2", "trainer.max_epochs=1", "callback=top"),
    *(
        "trainer.accelerator=cpu",
        "data.batch_size=8",
        "metric=full",
        "~metric.test.generation",
        "callback.progress=null",
    ),
    *("+trainer.limit_train_batches=1", "+trainer.limit_val_batches=1", "callback.summary=null"),
]
FITTED = 50
"""Of the mutants that may be resumed, every so many is trained."""
COMPOSED = 4
"""Of the sweeps that may be resumed, of every so many a job is composed."""
CHANGING = ("remove", "rename", "rmdir", "mkdir", "symlink", "link", "chmod", "chown", "truncate", "utime")
STARTING = ("subprocess.", "os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.fork", "pty.", "socket.")
SENDING = ("ctypes.dlopen", "webbrowser.open", "ftplib.", "urllib.", "smtplib.", "sqlite3.connect", "mmap.")


class Watch:
    """Notes what happens while it is armed that did not happen to an honest run.

    Args:
        inside: the folder that may be written to.
    """

    def __init__(self, inside: Path):
        self.inside = str(inside)
        self.learning, self.armed = False, False
        self.known: set[tuple[str, str]] = set()
        self.seen: list[tuple[str, str]] = []
        sys.addaudithook(self._hook)

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not (self.armed or self.learning) or (noted := self._noted(event, arguments)) is None:
            return
        if self.learning:
            self.known.add(noted)
        elif noted not in self.known:
            self.seen.append(noted)

    def _noted(self, event: str, arguments: tuple[Any, ...]) -> tuple[str, str] | None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
            return self._outside(event, path) if writes else None
        if event.startswith("os.") and event[3:] in CHANGING:
            return next(filter(None, (self._outside(event, each) for each in arguments)), None)
        if event == "import":
            return event, str(arguments[0])
        if event == "exec":
            return event, str(getattr(arguments[0], "co_filename", "?"))
        if event.startswith((*STARTING, *SENDING)):
            return event, repr(arguments)[:200]
        return None

    def _outside(self, event: str, path: object) -> tuple[str, str] | None:
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        absolute = os.path.realpath(os.fsdecode(path))
        return None if absolute.startswith((self.inside, "/dev/null")) else (event, absolute)

    @contextlib.contextmanager
    def watching(self, learning: bool = False) -> Any:
        """Inside, events are noted, or learnt as those of an honest run."""
        self.seen, self.learning, self.armed = [], learning, not learning
        try:
            yield
        finally:
            self.learning = self.armed = False


class Stranger:
    """What a stranger might write into a file.

    Args:
        draw: where the choices come from.
        canary: a file that is there once some code of theirs has run.
    """

    def __init__(self, draw: random.Random, canary: Path):
        self.draw, self.canary = draw, str(canary)

    def payload(self) -> Any:
        """Something that would run code, open, write or send, if it were followed."""
        code, target = f"open({self.canary!r}, 'w')", self.draw.choice(TARGETS)
        call: dict[str, Any] = {
            "_target_": target,
            self.draw.choice(ARGUMENTS): self.draw.choice([code, self.canary]),
        }
        positional = {
            "_target_": target,
            "_args_": [self.draw.choice([code, self.canary, f"touch {self.canary}"])],
        }
        inner = self.draw.choice([call, positional, {**call, "_partial_": True}, {"()": target, "x": code}])
        text = json.dumps(inner).replace('"', "")
        return self.draw.choice(
            [
                *(inner, [inner], {"x": inner}, {**inner, "_recursive_": False}, target, self.canary, code),
                *(
                    f"${{oc.create:{text}}}",
                    f"${{oc.env:{self.draw.choice(['HOME', 'WANDB_API_KEY'])}}}",
                    "${seed}",
                ),
                *("${hydra:runtime.output_dir}", "${oc.decode:${name}}", "???", f"../../../{self.canary}"),
                *(
                    "http://127.0.0.1:9/x",
                    "evil_module:Evil",
                    "file://" + self.canary,
                    f"sftp://127.0.0.1{self.canary}",
                ),
                *(
                    "\x1b]0;x\x07",
                    "=HYPERLINK(1)",
                    "<script>",
                    "x" * 200_000,
                    -1,
                    1e400,
                    True,
                    None,
                    [],
                    {},
                    10**30,
                ),
            ]
        )

    def hit(self, content: Any) -> Any:
        """The same nested data with a payload somewhere."""
        content = copy.deepcopy(content)
        for _ in range(self.draw.choice((1, 1, 2))):
            places = list(containers(content))
            # As often near the top, where there is little, as in the depths of the metrics.
            node = self.draw.choice(places[: self.draw.choice((1, 20, len(places)))])
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            if isinstance(node, dict) and (not keys or self.draw.random() < 0.4):
                node[self.draw.choice([*KEYS, self.canary, "${seed}"])] = self.payload()
            elif keys:
                node[self.draw.choice(keys)] = self.payload()
        return content

    def argument(self) -> str:
        """An argument of a command."""
        value = json.dumps(self.payload()).replace('"', self.draw.choice(["", "'"]))
        sign, key = self.draw.choice(["", "+", "++", "~"]), self.draw.choice(ARGUMENT_KEYS)
        return f"{sign}{key}={value}"


TARGETS = [
    *("builtins.exec", "builtins.eval", "builtins.open", "os.system", "os.remove", "os.mkdir", "subprocess.Popen"),
    *("pathlib.Path.touch", "joblib.load", "pickle.loads", "torch.load", "torch.hub.load", "torch.jit.load"),
    *("hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_method", "importlib.import_module"),
    *("functools.partial", "evil_module.Evil", "vae.feature.network.OwnFeatures", "vae.feature.network.Inception"),
    *("vae.sweep.pruning.Pruning", "vae.run.files.write_atomically", "vae.trained.load.load_model"),
    *("vae.logger.metrics_csv.MetricsCSV", "vae.callback.pictures.Pictures", "vae.callback.run_page.RunPage"),
    *("lightning.pytorch.callbacks.ModelCheckpoint", "lightning.pytorch.loggers.CSVLogger"),
    *("lightning.pytorch.loggers.TensorBoardLogger", "lightning.pytorch.callbacks.LambdaCallback"),
    *("lightning.pytorch.cli.LightningCLI", "torch.optim.Adam", "torch.optim.lr_scheduler.LambdaLR"),
    *("torch.nn.Identity", "vae.data.image_folder.ImageFolder", "vae.metric.feature_distance.Generation"),
    *("optuna.storages.RDBStorage", "wandb.init", "logging.FileHandler", "webbrowser.open"),
]
ARGUMENTS = [
    "path",
    "folder",
    "dirpath",
    "save_dir",
    "f",
    "filename",
    "name",
    "args",
    "run",
    "config",
    "file",
    "cmd",
]
KEYS = [
    *("_target_", "_args_", "_partial_", "_recursive_", "_convert_", "hydra", "defaults", "features", "base_url"),
    *("settings", "entity", "plugins", "dirpath", "filename", "path", "cache", "folder", "callback", "x", "()"),
    *("pruning", "jobs", "arguments", "constants", "default_root_dir", "weights", "id", "trust", "open"),
]
ARGUMENT_KEYS = [
    *("latent_size", "network", "network.encoder", "corruption", "callback.x", "callback.best.dirpath", "prior"),
    *("hydra.hydra_logging.handlers", "hydra.job_logging", "hydra.job.env_set.PYTHONPATH", "hydra.callbacks.x"),
    *("hydra.searchpath", "hydra/launcher", "hydra.launcher._target_", "hydra.launcher.setup"),
    *("hydra.sweeper.pruner", "hydra.sweeper.sampler._target_", "hydra.sweeper.params.prior", "logger.csv.path"),
    *("logger.wandb.settings.base_url", "trainer.default_root_dir", "trainer.plugins", "paths.run", "paths.cache"),
    *(
        "data",
        "data.cache",
        "sweep.jobs",
        "trust",
        "experiment",
        "objective/beta",
        "metric.test.x",
        "trainer.logger",
    ),
]


def containers(node: Any) -> Any:
    """All dicts and lists of nested data, those near the top first."""
    found = [node]
    for each in found:
        below = each.values() if isinstance(each, dict) else each
        found += [child for child in below if isinstance(child, dict | list)]
    return found


class Scene:
    """An honest run and an honest sweep, which can be put back as they were.

    Args:
        folder: where they are.
    """

    def __init__(self, folder: Path):
        self.folder, self.run, self.sweep = folder, RunDirectory(folder / "run"), SweepDirectory(folder / "sweep")
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = compose("train", [*TINY, f"paths.run={self.run.path}"])
        self.run.write_config(config)
        self.run.write_arguments(TINY)
        self.run.write_origin({"commit": "0123456789", "device": "CPU", "torch": "2"})
        self.run.write_metrics({"test/elbo": -3.0, "seconds": 1.0, "epochs": 1})
        (self.run.path / "metrics.csv").write_text("step,epoch,val/elbo,val/loss\n8,0,-3.0,3.0\n")
        OmegaConf.resolve(config)
        model = build_model(config, instantiate(config.data).image_shape)
        weights = {f"model.{name}": values for name, values in model.state_dict().items()}
        for name in ("best", "last"):
            path = self.run.path / "checkpoints" / f"{name}.ckpt"
            SealedCheckpoints().save_checkpoint({"state_dict": weights}, path)
        job = make_job({"latent_size": "2"})
        self.sweep.write(
            [job],
            arguments=["latent_size=2,3", "logger=csv", "optimizer.lr=1e-3", "hydra/launcher=joblib"],
            identity={"axes": ["latent_size"], "constants": [], "config": {"seed": 0, "lr": "${seed}"}},
            metric="val/elbo",
            axes=["latent_size"],
            constants=["logger=csv"],
            pruning={"monitor": "val/elbo", "pruner": {"_target_": "optuna.pruners.NopPruner"}},
        )
        shutil.copytree(self.run.path, self.sweep.path / job.name)
        with self.sweep.job(job.name).lock():
            self.sweep.job(job.name).start()
            self.sweep.job(job.name).finish("done")
        self.honest = {path: path.read_bytes() for path in self.folder.rglob("*") if path.is_file()}

    def restore(self) -> None:
        """Put every file back."""
        for path in sorted(self.folder.rglob("*"), reverse=True):
            if path.is_symlink() or (path.is_file() and path not in self.honest):
                path.unlink()
        for path, content in self.honest.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)


def load(scene: Scene, number: int) -> None:
    """As `load_model` and `vae.sample`."""
    load_model(scene.run.path).sample(1)


def resume(scene: Scene, number: int) -> None:
    """As `train.py resume=<run>`, up to the first step, and now and then that, too."""
    config = scene.run.resumed_config()
    OmegaConf.resolve(config)
    # Both start processes where they are honestly asked for: W&B, whose settings were checked, and a compiler.
    config.logger.pop("wandb", None)
    config.compile = {"mode": None}
    data, trainer = instantiate(config.data), build_trainer(config)
    module = build_module(config, data, trainer)
    scene.run.write_config(config)
    for logger in trainer.loggers:
        logger.log_metrics({"train/loss": 1.0}, step=1)
        logger.save()
    if number % FITTED == 0:
        trainer.fit(module, data)


def page(scene: Scene, number: int) -> None:
    """As `vae.evaluate` and the training itself write pages."""
    scene.run.write_origin({"commit": "0123456789"})
    write_run_page(scene.run, "done", 1)


def report(scene: Scene, number: int) -> None:
    """As `vae.sweep.report`."""
    write_report(scene.sweep.path)


def arguments(scene: Scene, number: int) -> None:
    """As `train.py resume=<sweep>`, up to the composed config of a job."""
    taken = resume_arguments(["train.py", f"resume={scene.sweep.path}"])[1:]
    if number % COMPOSED:
        return
    own = [argument for argument in taken if not argument.startswith(("hydra", "+hydra"))]
    one = [argument.partition(",")[0] if argument.startswith("latent_size=") else argument for argument in own]
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config: DictConfig = compose("train", [*one, "name=x", f"paths.run={scene.folder}/job"])
    OmegaConf.resolve(config)
    instantiate(config.callback, _convert_="all")


def pruning(scene: Scene, number: int) -> None:
    """As a job of an adaptive sweep."""
    from vae.sweep.pruning import Pruning

    Pruning(str(scene.sweep.path), "latent_size=2")


Attack = tuple[Callable[[Scene], Path], Callable[[Scene, int], None]]
ATTACKS: list[Attack] = [
    *[(lambda scene: scene.run.config_file, load)] * 2,
    *[(lambda scene: scene.run.config_file, resume)] * 3,
    *[(lambda scene: scene.run.origin_file, page)] * 2,
    (lambda scene: scene.run.metrics_file, page),
    *[(lambda scene: scene.sweep.manifest_file, report)] * 3,
    *[(lambda scene: scene.sweep.manifest_file, arguments)] * 3,
    (lambda scene: scene.sweep.path / "latent_size=2" / "job.json", report),
    (lambda scene: scene.sweep.path / "latent_size=2" / "metrics.json", report),
    (lambda scene: scene.sweep.path / "latent_size=2" / ".hydra" / "config.yaml", report),
    *([(lambda scene: scene.sweep.manifest_file, pruning)] * 2 if find_spec("optuna") else []),
]


def write_mutant(scene: Scene, path: Path, stranger: Stranger) -> None:
    """Change a file as a stranger might, or plant one beside it."""
    draw, content = stranger.draw, path.read_bytes()
    kind = draw.random()
    if kind < 0.1:
        path.write_bytes(mutate(content, draw))
    elif kind < 0.2:
        planted = path.with_name(draw.choice([path.name + ".partial", "report.html", "summary.csv", "run.html"]))
        planted.unlink(missing_ok=True)
        planted.symlink_to(stranger.canary)
    elif path == scene.sweep.manifest_file and kind < 0.6:
        manifest = json.loads(content)
        manifest[draw.choice(["arguments", "constants"])].append(stranger.argument())
        path.write_text(json.dumps(manifest))
    elif path.suffix == ".json":
        path.write_text(json.dumps(stranger.hit(json.loads(content))))
    else:
        path.write_text(yaml.safe_dump(stranger.hit(yaml.safe_load(content)), allow_unicode=True))


def main(mutants: int = 10_000, seed: int = 0) -> int:
    """Try mutants and print what came of them; the exit status."""
    warnings.simplefilter("ignore")
    quiet_libraries()
    os.environ["WANDB_API_KEY"] = "0123456789" * 4
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    folder = Path(tempfile.mkdtemp()).resolve()
    (folder / "evil").mkdir()
    canary = folder / "canary"
    (folder / "evil" / "evil_module.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    sys.path.append(str(folder / "evil"))
    inside = folder / "scene"
    scene, watch, quiet = Scene(inside), Watch(inside), io.StringIO()
    os.chdir(inside)
    started = time.monotonic()
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        for path_of, act in ATTACKS:
            for _ in range(2):
                with watch.watching(learning=True):
                    act(scene, 0)
                    for refused in ("${", "\x1b"):
                        path = path_of(scene)
                        path.write_text(path.read_text().replace(":", f": {refused}", 1))
                        with contextlib.suppress(Exception, SystemExit):
                            act(scene, 0)
                scene.restore()
    with watch.watching():
        __import__("evil_module")
    if {"import", "exec", "open"} - {event for event, _ in watch.seen} or not canary.exists():
        raise AssertionError(f"the watch does not see what code of a stranger's does: {watch.seen}")
    del sys.modules["evil_module"]
    canary.unlink()
    for number in range(mutants):
        draw = random.Random(f"{seed} {number}")
        path_of, act = draw.choice(ATTACKS)
        write_mutant(scene, path_of(scene), Stranger(draw, canary))
        came, said = "taken", ""
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet), watch.watching():
            try:
                act(scene, number)
            except (ConfigError, SystemExit) as error:
                came, said = "refused", str(error)
            except (
                Exception
            ) as error:  # what a library says of a strange value: of no effect, and that is the question
                came, said = "failed", f"{type(error).__name__}: {error}"
        counts[f"{act.__name__} {came}"] += 1
        effects = [*watch.seen, *([("canary", str(canary))] if canary.exists() else [])]
        if effects:
            wrong.append(f"mutant {number} ({act.__name__}, {came}): {effects[:3]} {said[:300]}")
            print(wrong[-1], flush=True)
            canary.unlink(missing_ok=True)
        scene.restore()
        quiet.seek(0)
        quiet.truncate()
    done = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    print(f"{mutants} mutants in {time.monotonic() - started:.0f} s: {done}; {len(wrong)} with an effect")
    os.chdir("/")
    shutil.rmtree(folder, ignore_errors=True)
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(**{key: int(value) for key, _, value in (each.partition("=") for each in sys.argv[1:])}))
