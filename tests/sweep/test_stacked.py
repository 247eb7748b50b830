"""hydra/launcher=stacked leaves what hydra/launcher=basic leaves."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from commands import run_train
from sweep.small_sweep import same, summary_of
from vae.run.directory import RunDirectory
from vae.sweep.stacked import shared_out, stack_key, stacks
from vae.trained.load import load_model

GRID = ["latent_size=2,3", "likelihood.sigma=0.1,0.3"]
SMALL = ["network.hidden_sizes=[16]", "trainer.max_epochs=2", "trainer.accelerator=cpu", "metric.test.nll.k=5"]
QUIET = ["logger=csv", "callback.pictures=null"]


def sweep(folder: Path, launcher: str, *more: str) -> dict[str, dict[str, str]]:
    done = run_train("-m", *GRID, *SMALL, *QUIET, f"hydra/launcher={launcher}", f"hydra.sweep.dir={folder}", *more)
    assert done.returncode == 0, done.stderr
    return summary_of(folder)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_summary_is_that_of_basic_and_models_load(processes: int, tmp_path: Path) -> None:
    basic = sweep(tmp_path / "basic", "basic")
    stacked = sweep(tmp_path / "stacked", "stacked", f"hydra.launcher.processes={processes}")
    same(basic, stacked)
    for job in sorted((tmp_path / "basic").glob("*/metrics.json")):
        folder = tmp_path / "stacked" / job.parent.name
        record = json.loads((folder / "job.json").read_text())
        assert (record["state"], record["attempts"]) == ("done", 1)
        for place in (".", ".hydra", "checkpoints"):
            names = {path.name for path in (job.parent / place).iterdir()}
            assert {path.name for path in (folder / place).iterdir()} == names
        assert RunDirectory(folder).arguments() == RunDirectory(job.parent).arguments()
        # As many files and folders as docs/sweeps.md says, and what no commit has of the sources.
        left = [folder, *(path for path in folder.rglob("*") if path.suffix != ".patch")]
        assert len({path.stat().st_ino for path in left}) == 11, sorted(left)
        assert load_model(folder).sample(3).shape == (3, 1, 8, 8)


@pytest.mark.slow
def test_compiled_stacks_give_the_same(tmp_path: Path) -> None:
    bernoulli = ["likelihood=bernoulli", "data.binarize=threshold"]
    grid = ["latent_size=2,3", *SMALL, *QUIET, *bernoulli, "hydra.launcher.processes=1", "hydra/launcher=stacked"]
    summaries = []
    for compiled in ("false", "true"):
        folder = tmp_path / compiled
        done = run_train("-m", *grid, f"compile={compiled}", f"hydra.sweep.dir={folder}")
        assert done.returncode == 0, done.stderr
        summaries.append(summary_of(folder))
    same(*summaries)


def test_jobs_that_cannot_be_stacked_are_trained_all_the_same(tmp_path: Path) -> None:
    done = run_train(
        "-m", "objective.chunk=null,1", "objective=iwae", "objective.k=2", *SMALL, *QUIET,
        "trainer.max_epochs=1", "hydra/launcher=stacked", "hydra.launcher.processes=1",
        f"hydra.sweep.dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    log = (tmp_path / "objective.chunk=1" / "output.log").read_text()
    assert "this job is trained by itself: objective.chunk" in log


def test_a_job_that_fails_is_recorded_and_the_others_go_on(tmp_path: Path) -> None:
    done = run_train(
        "-m", "likelihood.sigma=0.2,1e-30,0.3", *SMALL, *QUIET, "trainer.max_epochs=1", "hydra/launcher=stacked",
        "hydra.launcher.processes=1", f"hydra.sweep.dir={tmp_path}",
    )  # fmt: skip
    assert done.returncode == 1
    states = {path.parent.name: json.loads(path.read_text())["state"] for path in tmp_path.glob("*/job.json")}
    assert sorted(states.values()) == ["done", "done", "failed"]
    assert states["likelihood.sigma=1e-30"] == "failed"


@pytest.mark.parametrize(("key", "value"), [("members", "0"), ("members", "many"), ("processes", "-1")])
def test_impossible_options_are_one_line(key: str, value: str, tmp_path: Path) -> None:
    done = run_train(
        "-m", "seed=0,1", "hydra/launcher=stacked", f"hydra.launcher.{key}={value}", f"hydra.sweep.dir={tmp_path}"
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: hydra.launcher.{key}={value}: must be")
    assert done.stderr.count("\n") == 1


def config(**changes: object) -> OmegaConf:
    plain = {
        "latent_size": 2, "seed": 0, "likelihood.sigma": 0.1, "objective.k": 1, "objective.beta": 1.0,
        "objective.free_bits": 0.0, "optimizer.lr": 1e-3,
        "posterior._target_": "vae.posterior.diagonal_gaussian.DiagonalGaussian",
        "prior._target_": "vae.prior.standard_normal.StandardNormal", "data.seed": 0, "data.batch_size": 8,
    }  # fmt: skip
    made = OmegaConf.create()
    for key, value in (plain | {key.replace("__", "."): value for key, value in changes.items()}).items():
        OmegaConf.update(made, key, value)
    return made


@pytest.mark.parametrize(
    "changes",
    [{"seed": 3}, {"data__seed": 3}, {"latent_size": 7}, {"likelihood__sigma": 2.0}, {"objective__beta": 4},
     {"optimizer__lr": 0.5}],
)  # fmt: skip
def test_numbers_may_differ_in_a_stack(changes: dict[str, object]) -> None:
    assert stack_key(config(**changes)) == stack_key(config())


@pytest.mark.parametrize(
    "changes",
    [{"objective__k": 5}, {"data__batch_size": 9}, {"objective__beta": {"_target_": "x"}},
     {"objective__free_bits": 0.1}, {"optimizer__weight_decay": 0.1}],
)  # fmt: skip
def test_shapes_and_parts_may_not(changes: dict[str, object]) -> None:
    assert stack_key(config(**changes)) != stack_key(config())


def test_latents_are_not_padded_where_they_count() -> None:
    bits = {"objective__free_bits": 0.1}
    assert stack_key(config(**bits)) != stack_key(config(**bits, latent_size=7))
    assert stack_key(config(**bits)) == stack_key(config(objective__free_bits=0.2))


@pytest.mark.parametrize(
    ("ks", "processes", "sizes"),
    [
        ([1] * 9 + [5] * 9, 2, [9, 9]),
        ([1] * 8, 2, [4, 4]),
        ([1] * 8, 1, [8]),
        ([1, 5, 7], 2, [1, 2]),
        ([1] * 3, 8, [1, 1, 1]),
    ],
)
def test_every_process_gets_a_share(ks: list[int], processes: int, sizes: list[int]) -> None:
    jobs = [(Path(str(n)), config(objective__k=k, seed=n)) for n, k in enumerate(ks)]
    shares = shared_out(jobs, processes)
    assert sorted(map(len, shares)) == sizes
    assert sorted(path.name for share in shares for path, _ in share) == sorted(str(n) for n in range(len(ks)))
    # Jobs that may be stacked are in as few processes as that allows.
    if processes < len(set(ks)) or sizes == [9, 9]:
        assert all(len({config.objective.k for _, config in share}) <= 2 for share in shares)


@pytest.mark.parametrize(
    ("members", "sizes"), [("auto", [5, 2]), (8, [5, 2]), (4, [3, 2, 2]), (2, [2, 2, 1, 2]), (1, [1] * 7)]
)
def test_stacks_are_of_jobs_of_equal_shape_and_no_larger_than_asked(members: int | str, sizes: list[int]) -> None:
    jobs = [(Path(str(n)), config(objective__k=1 + n // 5, seed=n)) for n in range(7)]
    found = stacks(jobs, members)
    assert [len(stack) for stack in found] == sizes
    assert [path.name for stack in found for path, _ in stack] == [str(n) for n in range(7)]
    assert all(len({config.objective.k for _, config in stack}) == 1 for stack in found)
