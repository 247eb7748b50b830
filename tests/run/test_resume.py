"""A resumed run ends as one that nothing interrupted; what may change takes effect, and all else is refused."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Timer
from omegaconf import DictConfig, OmegaConf

from commands import Ended, call_command, metrics_of, weights_of
from reliability.torture import STOP_EARLY, differences, record
from vae.checks import ConfigError
from vae.paths import CONF
from vae.run.resume import FOLLOWERS, RULES, check_changes, refusal

TINY = (
    "trainer.accelerator=cpu",
    "network.hidden_sizes=[16]",
    "latent_size=2",
    "data.batch_size=256",
    "data.eval_batch_size=90",
    "logger=csv",
    "callback=none",
    "optimizer.lr=0.01",
    "metric.test.nll.k=2",
)
"""Four steps an epoch."""


def train(folder: Path, *arguments: str) -> Ended:
    return call_command("vae.train", *arguments, folder=folder)


def begin(run: Path, *arguments: str) -> Path:
    ended = train(run.parent, *TINY, *arguments, f"hydra.run.dir='{run}'")
    assert ended.returncode == 0, ended.stderr
    return run


def resume(run: Path, *arguments: str) -> Path:
    ended = train(run.parent, f"resume={run}", *arguments)
    assert ended.returncode == 0, ended.stderr
    return run


def contents(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in run.rglob("*") if path.is_file()}


# Exactly the same run.


@pytest.mark.parametrize(
    "end",
    [
        ("trainer.max_epochs=3",),
        ("trainer.max_steps=12", "steps_at_once=1"),
        ("trainer.max_steps=10", "steps_at_once=1"),
        ("trainer.max_steps=10", "steps_at_once=3"),
        ("trainer.max_epochs=9", STOP_EARLY),
        ("trainer.max_epochs=3", "+trainer.max_time={days:9}"),
        ("trainer.max_epochs=3", "trainer.num_sanity_val_steps=2", "trainer.check_val_every_n_epoch=2"),
    ],
    ids=["epochs", "steps", "steps_within_an_epoch", "steps_within_a_group", "early_stopping", "time", "sanity"],
)
def test_a_run_that_is_ended_after_every_checkpoint_is_the_same(
    end: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = begin(tmp_path / "whole", *end), tmp_path / "run"
    from vae.run import checkpoint

    written = checkpoint._flush_names

    def end_after_last(folder: Path) -> None:
        written(folder)
        if (folder / "last.ckpt").exists() and (folder / "last.ckpt").stat().st_ino not in seen:
            seen.add((folder / "last.ckpt").stat().st_ino)
            raise RuntimeError("planted")

    seen: set[int] = set()
    monkeypatch.setattr(checkpoint, "_flush_names", end_after_last)
    ended = train(tmp_path, *TINY, *end, f"hydra.run.dir={run}")
    times = 1
    while ended.returncode:
        assert "planted" in ended.stderr
        ended = train(tmp_path, f"resume={run}")
        times += 1
        assert times < 12
    assert times == len(seen) + 1 > 3
    # Of an epoch without a validation Lightning keeps how far the last one was, which a resumed run has not seen.
    assert [line for line in differences(record(whole), record(run)) if "epoch_loop.val_loop." not in line] == []


@pytest.mark.parametrize("first", [3, 8, 10])
def test_more_steps_later_are_the_same_as_at_once(first: int, tmp_path: Path) -> None:
    whole = begin(tmp_path / "whole", "trainer.max_steps=16", "steps_at_once=3")
    run = begin(tmp_path / "run", f"trainer.max_steps={first}", "steps_at_once=3")
    assert (metrics_of(run)["steps"], metrics_of(run)["best_step"]) == (first, 3 if first == 3 else 8)
    resume(run, "trainer.max_steps=13")
    resume(run, "trainer.max_steps=16")
    assert differences(record(whole), record(run)) == []


def test_more_time_later_is_the_same_as_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = begin(tmp_path / "whole", "trainer.max_epochs=4", "steps_at_once=1")
    batch_ends = Timer.on_train_batch_end

    def late_after_ten_steps(self: Timer, trainer: Any, *others: Any) -> None:
        if trainer.global_step == 10:
            self._offset = 10**9
        batch_ends(self, trainer, *others)

    with monkeypatch.context() as patch:
        patch.setattr(Timer, "on_train_batch_end", late_after_ten_steps)
        run = begin(tmp_path / "run", "trainer.max_epochs=4", "+trainer.max_time={hours:1}")
    assert metrics_of(run)["steps"] == 10
    before = contents(run)
    assert "this run is finished" in train(tmp_path, f"resume={run}").stdout
    assert contents(run) == before
    resume(run, "~trainer.max_time")
    assert {**metrics_of(run), "seconds": 0} == {**metrics_of(whole), "seconds": 0}
    for name, value in weights_of(whole).items():
        assert torch.equal(weights_of(run)[name], value)


def test_a_moved_and_a_copied_run_go_on_where_they_are(tmp_path: Path) -> None:
    more = ("callback=top", "callback.page=null", "callback.pictures.every_n_epochs=2", "callback.watch=null")
    whole = begin(tmp_path / "whole", "trainer.max_epochs=4", *more)
    began = begin(tmp_path / "run", "trainer.max_epochs=2", *more)
    moved = began.rename(tmp_path / "an other" / "place") if (tmp_path / "an other").mkdir() is None else began
    before = contents(moved)
    copied = Path(str(moved) + " 'copied'")
    copied.mkdir()
    for name, content in before.items():
        (copied / name).parent.mkdir(parents=True, exist_ok=True)
        (copied / name).write_bytes(content)
    for run in (copied, moved):
        resume(run, "trainer.max_epochs=4")
        assert differences(record(whole), record(run)) == []
        if run == copied:
            assert contents(moved) == before
    assert not began.exists()


def test_a_moved_sweep_goes_on_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, sweep = tmp_path / "whole", tmp_path / "sweep"
    typed = ("-m", "seed=0,1", *TINY, "trainer.max_epochs=3")
    assert train(tmp_path, *typed, f"hydra.sweep.dir={whole}").returncode == 0
    from vae.training.module import VAEModule

    validated = VAEModule.on_validation_epoch_end

    def fail_in_the_third_epoch(self: VAEModule) -> None:
        validated(self)
        if self.trainer.current_epoch == 2:
            raise RuntimeError("planted")

    with monkeypatch.context() as patch:
        patch.setattr(VAEModule, "on_validation_epoch_end", fail_in_the_third_epoch)
        assert train(tmp_path, *typed, f"hydra.sweep.dir={sweep}").returncode == 1
    moved = sweep.rename(tmp_path / "moved")
    ended = train(tmp_path, "-m", f"resume={moved}")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert not sweep.exists()
    for job in ("seed=0", "seed=1"):
        assert differences(record(whole / job), record(moved / job)) == []


# What may change.


def leaves(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict) and node:
        for name, value in node.items():
            yield from leaves(value, f"{key}.{name}" if key else str(name))
    else:
        yield key, node


GROUPS = sorted(
    str(path.relative_to(CONF).with_suffix(""))
    for path in CONF.rglob("*.yaml")
    if len(path.relative_to(CONF).parts) > 1
    and path.relative_to(CONF).parts[0] not in ("hydra", "reproduce", "sweep", "for_data")
)


@pytest.mark.parametrize("option", GROUPS)
def test_every_key_takes_effect_or_is_refused(option: str, composed: Callable[..., DictConfig]) -> None:
    group, _, name = option.rpartition("/")
    more = ("data.path=somewhere",) if name == "image_folder" else ()
    config = composed(f"{group}={name}", *more)
    plain = OmegaConf.to_container(config, resolve=True)
    saved = OmegaConf.create(plain)
    assert check_changes(saved, OmegaConf.create(plain)) == []
    for key, value in leaves(plain):
        # All that does not depend on the option has been looked at with the first.
        if key == "resume" or (option != GROUPS[0] and not key.startswith(f"{group.partition('/')[0]}.")):
            continue
        assert key.partition(".")[0] in RULES, f"{key} has no rule"
        changed = OmegaConf.create(plain)
        OmegaConf.update(changed, key, "other" if value is None or isinstance(value, str) else None)
        if refusal(key) is None:
            assert key in [change.key for change in check_changes(saved, changed)]
        else:
            with pytest.raises(ConfigError, match=rf"^{re.escape(key)}=.*: cannot change when a run is resumed"):
                check_changes(saved, changed)


def test_every_rule_is_of_a_key_that_there_is(composed: Callable[..., DictConfig]) -> None:
    keys = {key for key, _ in leaves(OmegaConf.to_container(composed("logger=csv"), resolve=True))}
    for option in GROUPS:
        package = option.rpartition("/")[0].replace("/", ".")
        own = OmegaConf.to_container(OmegaConf.load(CONF / f"{option}.yaml"))
        keys |= {key for key, _ in leaves(own, package)}
    there = {".".join(key.split(".")[:n]) for key in keys for n in range(1, key.count(".") + 2)}
    assert set(RULES) - there == set()


def test_keys_that_follow_others_in_conf_follow_them_here() -> None:
    found: dict[str, set[str]] = {}
    for path in CONF.rglob("*.yaml"):
        parts = path.relative_to(CONF).parts
        if len(parts) < 2 or parts[0] in ("hydra", "reproduce", "sweep", "experiment", "for_data"):
            continue
        for key, value in leaves(OmegaConf.to_container(OmegaConf.load(path))):
            for source in re.findall(r"\$\{([a-z_.]+)\}", str(value)):
                if source == "paths.run" or refusal(source) is None:
                    found.setdefault(source, set()).add(f"{parts[0]}.{key}")
    del found["paths.run"]
    assert found.pop("trainer.max_epochs", set()) <= {"scheduler.T_max"}  # refused where it matters
    assert {source: set(keys) for source, keys in FOLLOWERS.items()} == found


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return begin(tmp_path_factory.mktemp("runs") / "finished", "trainer.max_epochs=2", "scheduler=cosine")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["latent_size=3"], r"error: latent_size=3: cannot change when a run is resumed \(it is 2\): the weights"),
        (["likelihood.sigma=1"], r"error: likelihood\.sigma=1: cannot change"),
        (["optimizer=sgd"], "error: optimizer=sgd: cannot change when a run is resumed: options of a group are"),
        (["data=mnist"], "error: data=mnist: cannot change when a run is resumed: options of a group are"),
        (
            ["optimizer.lr=1e-9"],
            r"error: optimizer\.lr=1e-09: .*: this run is finished, after 2 epochs and 8 steps",
        ),
        (["trainer.max_epochs=1"], r"error: trainer\.max_epochs=1: must be at least 2"),
        (["trainer.max_epochs=3"], r"error: trainer\.max_epochs=3: .* give scheduler\.T_max=3"),
        (["trainer.max_epochs=3", "scheduler.T_max=3", "trainer.devices=999"], r"error: trainer\.devices=999: "),
        (["trainer.max_epochs=x"], r"error: trainer\.max_epochs=x: must be"),
        (["+callback.x=5"], r"error: callback\.x=5: must be null or a callback"),
        (["-m", "latent_size=3"], "error: resume=.* -m: only what"),
        (["hydra.run.dir=/tmp/x"], r"error: resume=.* hydra\.run\.dir=/tmp/x: only what"),
        (["latent_sze=3"], "error: latent_sze=3: no such key"),
    ],
)
def test_what_is_refused_leaves_a_finished_run_as_it_was(arguments: list[str], line: str, finished: Path) -> None:
    before = contents(finished)
    ended = train(finished.parent, f"resume={finished}", *arguments)
    assert ended.returncode == 1
    assert re.match(line, ended.stderr), ended.stderr
    assert ended.stderr.count("\n") == 1
    assert contents(finished) == before


def test_a_finished_run_is_not_done_again(finished: Path) -> None:
    before = contents(finished)
    # What is as it was is no change.
    ended = train(finished.parent, f"resume={finished}", "latent_size=2", "trainer.max_epochs=2")
    assert ended.returncode == 0
    assert "this run is finished, after 2 epochs and 8 steps; a larger trainer.max_epochs" in ended.stdout
    assert contents(finished) == before


def test_another_learning_rate_and_schedule_take_effect_and_are_recorded(tmp_path: Path) -> None:
    schedule = ["scheduler=step", "scheduler.step_size=1", "scheduler.gamma=0.1"]
    run = begin(tmp_path / "run", "trainer.max_epochs=2", *schedule)
    resume(run, "trainer.max_epochs=3", "optimizer.lr=1", "optimizer.betas=[0.8,0.9]", "scheduler.gamma=0.5")
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    group = state["optimizer_states"][0]["param_groups"][0]
    assert (group["lr"], group["initial_lr"], group["betas"]) == (0.125, 1, (0.8, 0.9))
    changes = json.loads((run / ".hydra" / "changes.json").read_text())["changes"]
    assert {change["key"]: (change["step"], change["from"], change["to"]) for change in changes} == {
        "trainer.max_epochs": (8, 2, 3),
        "optimizer.lr": (8, 0.01, 1),
        "optimizer.betas": (8, [0.9, 0.999], [0.8, 0.9]),
        "scheduler.gamma": (8, 0.1, 0.5),
    }
    assert OmegaConf.load(run / ".hydra" / "config.yaml").optimizer.lr == 1


def test_a_learning_rate_of_nothing_moves_nothing(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", "trainer.max_epochs=2")
    before = weights_of(run)
    resume(run, "trainer.max_epochs=3", "optimizer.lr=0")
    assert all(torch.equal(before[name], value) for name, value in weights_of(run).items())


def test_paths_of_images_follow_where_they_are(composed: Callable[..., DictConfig]) -> None:
    saved = OmegaConf.create(OmegaConf.to_container(composed("data=mnist", "paths.data=/old"), resolve=True))
    config = saved.copy()
    config.paths.data = "/new"
    keys = {change.key for change in check_changes(saved, config)}
    assert (keys, config.data.path) == ({"paths.data", "data.path"}, "/new")


# A finished run says so, and no other does.


def test_a_run_that_trains_on_is_not_finished_until_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = begin(tmp_path / "run", "trainer.max_epochs=1")
    with monkeypatch.context() as patch:
        patch.setattr("vae.training.module.VAEModule.validation_step", lambda *_: 1 / 0)
        assert train(tmp_path, f"resume={run}", "trainer.max_epochs=2").returncode == 1
    assert not (run / "metrics.json").exists()
    resume(run)
    assert metrics_of(run)["epochs"] == 2


def test_a_run_that_somebody_trains_is_left_to_him(tmp_path: Path) -> None:
    from vae.run.directory import RunDirectory

    run = begin(tmp_path / "run", "trainer.max_epochs=1")
    with RunDirectory(run).claim():
        before = contents(run)
        ended = train(tmp_path, f"resume={run}", "trainer.max_epochs=2")
        assert contents(run) == before
    assert ended.returncode == 1
    assert re.fullmatch(rf"error: {run}: another process trains this run \(process \d+ on .*\)\n", ended.stderr)


@pytest.mark.parametrize(
    ("arguments", "step"),
    [
        (["trainer.max_steps=3"], 3),
        (["trainer.check_val_every_n_epoch=5", "trainer.max_epochs=2"], 8),
        (["+trainer.limit_val_batches=0", "trainer.max_epochs=1"], 4),
        (["+trainer.fast_dev_run=true"], 1),
        (["trainer.max_epochs=0"], 0),
        (["callback.best=null", "trainer.max_epochs=1"], 4),
    ],
)
def test_a_run_that_was_never_validated_ends_with_numbers(arguments: list[str], step: int, tmp_path: Path) -> None:
    run = begin(tmp_path / "run", *arguments)
    numbers = metrics_of(run)
    assert (numbers["steps"], numbers["best_step"]) == (step, step)
    assert {"test/elbo", "test/nll"} <= set(numbers)
    assert ("val/elbo" in numbers) == ("limit_val_batches" not in arguments[0])
    if (run / "checkpoints").exists():
        names = {path.name for path in (run / "checkpoints").iterdir()} - {"previous.ckpt"}
        assert names == {"best.ckpt", "last.ckpt"}


@pytest.mark.parametrize("option", ["every_n_train_steps=5", "train_time_interval=3600"])
def test_no_checkpoint_from_within_an_epoch_is_what_a_run_is_resumed_from(option: str, tmp_path: Path) -> None:
    ended = train(tmp_path, *TINY, f"+callback.last.{option}")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith(f"error: callback.last.{option}: must be null")
    assert ended.stderr.count("\n") == 1


# A folder that holds a run already.


def test_a_run_is_replaced_only_where_the_user_says_so_and_the_new_one_can_begin(tmp_path: Path) -> None:
    run = begin(tmp_path / "run", "trainer.max_epochs=1")
    (run / "notes.txt").write_text("the user's own")
    (run / "evaluation.json").write_text("{}")
    before = contents(run)
    again = (*TINY, f"hydra.run.dir='{run}'", "trainer.max_epochs=2")
    refused = train(tmp_path, *again)
    assert refused.returncode == 1
    assert f"holds a run already; resume={run} goes on with it, and overwrite=true deletes it" in refused.stderr
    # The mistake is found by the model, after all that only composes.
    assert train(tmp_path, *again, "overwrite=true", "posterior=delta").returncode == 1
    assert contents(run) == before

    assert train(tmp_path, *again, "overwrite=true").returncode == 0
    after = contents(run)
    assert after.keys() - {"checkpoints/previous.ckpt"} == before.keys() - {"evaluation.json"}
    assert after["notes.txt"] == before["notes.txt"]
    assert metrics_of(run)["epochs"] == 2
    assert b"overwrite=true" in after[".hydra/origin.json"]
    # It goes on like any other, and is not deleted then.
    assert metrics_of(resume(run, "trainer.max_epochs=3"))["epochs"] == 3


def test_a_sweep_is_not_replaced(tmp_path: Path) -> None:
    ended = train(tmp_path, "-m", "latent_size=2,3", "overwrite=true", "hydra.sweep.dir=sweep")
    assert ended.returncode == 1
    assert "error: overwrite=true: is for a single run" in ended.stderr
