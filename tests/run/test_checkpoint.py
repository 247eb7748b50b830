"""Checkpoints: whole or not at all, and damage is seen."""

import os
import random
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from vae.checks import ConfigError
from vae.run import checkpoint
from vae.run.checkpoint import (
    DamagedCheckpointError,
    SealedCheckpoints,
    newest_undamaged,
    read_checkpoint,
)
from vae.run.resume import tidy

CONTENT = {"state_dict": {"w": torch.arange(500.0)}, "global_step": 3}


def write(path: Path, step: int = 3) -> Path:
    SealedCheckpoints().save_checkpoint(CONTENT | {"global_step": step}, path)
    return path


def step_of(path: Path | None) -> int:
    assert path is not None
    return read_checkpoint(path)["global_step"]


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def text(path: Path) -> None:
    path.write_text("not a checkpoint")


def test_it_is_what_torch_load_reads(tmp_path: Path) -> None:
    path = write(tmp_path / "last.ckpt")
    for found in (torch.load(path, weights_only=True), read_checkpoint(path)):
        assert torch.equal(found["state_dict"]["w"], CONTENT["state_dict"]["w"])
    assert names(tmp_path) == {"last.ckpt"}


def test_last_keeps_its_predecessor_and_no_other(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        write(tmp_path / "last.ckpt", step)
        write(tmp_path / "best.ckpt", step)
    assert names(tmp_path) == {"last.ckpt", "previous.ckpt", "best.ckpt"}
    assert step_of(tmp_path / "last.ckpt") == 3
    assert step_of(tmp_path / "previous.ckpt") == 2


@pytest.mark.parametrize("damage", [cut, empty, flip, text])
def test_a_damaged_last_is_named_and_the_one_before_used(
    damage: Callable[[Path], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    last = write(write(tmp_path / "last.ckpt", 1), 2)
    damage(last)
    assert step_of(newest_undamaged(tmp_path)) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"warning: {last}: ")
    assert said.count("\n") == 1
    # What is damaged is set aside, so that it does not replace the good one when the next is written.
    write(last, 3)
    assert names(tmp_path) == {"last.ckpt", "previous.ckpt", "last.ckpt.damaged"}
    assert (step_of(last), step_of(tmp_path / "previous.ckpt")) == (3, 1)


@pytest.mark.parametrize(
    ("is_whole", "damage", "is_kept"), [(True, None, False), (False, None, True), (True, flip, True)]
)
def test_a_complete_run_keeps_the_one_before_only_where_it_may_be_needed(
    is_whole: bool, damage: Callable[[Path], None] | None, is_kept: bool, tmp_path: Path
) -> None:
    progress = {"epoch_progress": {"current": {"processed": 2}}}
    rest = {"loops": {"fit_loop": progress}, "callbacks": {}, "is_whole_epoch": is_whole}
    last = tmp_path / "last.ckpt"
    for step in (1, 2):
        SealedCheckpoints().save_checkpoint(CONTENT | rest | {"global_step": step}, last)
    if damage:
        damage(last)
    tidy(tmp_path, last_is_best=False)
    assert names(tmp_path) == {"last.ckpt"} | ({"previous.ckpt"} if is_kept else set())


@pytest.mark.parametrize("last_is_best", [True, False])
def test_a_complete_run_has_no_checkpoint_twice(last_is_best: bool, tmp_path: Path) -> None:
    progress = {"epoch_progress": {"current": {"processed": 2}}}
    rest = {"loops": {"fit_loop": progress}, "callbacks": {}, "is_whole_epoch": True}
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    SealedCheckpoints().save_checkpoint(CONTENT | rest | {"global_step": 1}, best)
    for step in (1, 2):
        SealedCheckpoints().save_checkpoint(CONTENT | rest | {"global_step": step}, last)
    tidy(tmp_path, last_is_best)
    assert best.samefile(last) == last_is_best
    # Of a run that is extended, the best stays what it was.
    step = step_of(best)
    write(last, 3)
    assert (step_of(best), step_of(last)) == (step, 3)


def test_where_all_are_damaged_it_says_so(tmp_path: Path) -> None:
    cut(write(write(tmp_path / "last.ckpt")))
    flip(tmp_path / "previous.ckpt")
    with pytest.raises(ConfigError, match=r"does not match its checksum\), and so is every other"):
        newest_undamaged(tmp_path)
    assert newest_undamaged(tmp_path / "empty") is None


def test_every_single_flipped_bit_is_seen(tmp_path: Path) -> None:
    path = write(tmp_path / "last.ckpt")
    content, draw = path.read_bytes(), random.Random(0)
    for _ in range(300):
        damaged = bytearray(content)
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpointError):
            read_checkpoint(path)


def test_it_is_on_the_disk_and_verified_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = write(tmp_path / "last.ckpt", 1)
    done: list[tuple[str, int]] = []

    def note(module: object, name: str) -> None:
        function = getattr(module, name)

        def noted(*args: object) -> object:
            done.append((name, torch.load(last, weights_only=True)["global_step"]))
            return function(*args)

        monkeypatch.setattr(module, name, noted)

    note(os, "fsync")
    note(checkpoint, "check_seal")
    note(checkpoint, "_keep_predecessor")
    write(last, 2)
    # The second fsync is of the folder, that is, of the names.
    assert done == [("fsync", 1), ("check_seal", 1), ("_keep_predecessor", 1), ("fsync", 2)]


@pytest.fixture
def little_space() -> Iterator[None]:
    """No file may be longer than 1,000 bytes, as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_last_good_one(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    last = write(write(tmp_path / "last.ckpt", 1), 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    request.getfixturevalue("little_space")
    with pytest.raises(ConfigError, match=r"last\.ckpt: .*cannot be written \(File too large\); .* resume="):
        write(last, 3)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_checkpoint_remembers_only_those_beside_it(tmp_path: Path) -> None:
    """Lightning deletes the best checkpoint by the path that it remembers, once there is a better one."""
    state = {
        "best_model_path": f"{tmp_path}/checkpoints/../../../home/best.ckpt",
        "last_model_path": "",
        "kth_best_model_path": "sftp://elsewhere/kth.ckpt",
        "best_k_models": {"/elsewhere/a.ckpt": torch.tensor(1.0)},
        "dirpath": "/elsewhere",
    }
    path = tmp_path / "last.ckpt"
    SealedCheckpoints().save_checkpoint({"state_dict": {}, "callbacks": {"best": state, "other": {"x": 1}}}, path)
    read = SealedCheckpoints().load_checkpoint(path)["callbacks"]
    assert read["other"] == {"x": 1}
    assert read["best"] == {
        "best_model_path": str(tmp_path / "best.ckpt"),
        "last_model_path": "",
        "kth_best_model_path": str(tmp_path / "kth.ckpt"),
        "best_k_models": {str(tmp_path / "a.ckpt"): torch.tensor(1.0)},
        "dirpath": str(tmp_path),
    }
    for theirs in ("/home/me/thesis.tex", ["x.ckpt"], "/home/me/..", "."):
        hostile = {"best": state | {"best_model_path": theirs}}
        SealedCheckpoints().save_checkpoint({"state_dict": {}, "callbacks": hostile}, path)
        with pytest.raises(DamagedCheckpointError, match="is refused"):
            SealedCheckpoints().load_checkpoint(path)
