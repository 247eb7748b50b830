"""Tables of many runs: what differs, means with intervals, paired tests, and text for a paper."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

import vae
from commands import call_command
from sweep.fake_sweep import fake_elbo, write_fake_kinds, write_fake_sweep
from vae.checks import ConfigError
from vae.sweep.directory import SweepDirectory
from vae.sweep.table import against_the_best, keys_of, means, text

NOISE = np.random.default_rng(0).normal(size=(18, 4))


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> SweepDirectory:
    """18 cells of four seeds, each with a little noise of its own."""
    folder = write_fake_sweep(tmp_path_factory.mktemp("runs") / "sweep_1", seeds=4, failed=0)
    for number, job in enumerate(folder.jobs()):
        path = folder.path / job.name / "metrics.json"
        numbers = json.loads(path.read_text())
        numbers["test/elbo"] += NOISE[number // 4, number % 4]
        path.write_text(json.dumps(numbers))
        evaluation = {"metrics": {"test/nll": -numbers["test/elbo"] - 1}}
        (path.parent / "evaluation.json").write_text(json.dumps(evaluation))
    return folder


def test_a_row_has_what_differs_and_every_number(sweep: SweepDirectory) -> None:
    frame = vae.table(sweep.path)
    assert len(frame) == 72
    assert keys_of(frame) == ["latent_size", "objective.k", "likelihood.sigma", "seed"]
    first = frame[(frame["latent_size"] == 8) & (frame["objective.k"] == 5) & (frame["likelihood.sigma"] == 0.3)]
    assert list(first["val/elbo"]) == pytest.approx([fake_elbo(8, 5, 0.3, seed) for seed in range(4)])
    assert list(first["evaluation/nll"]) == pytest.approx(list(-first["test/elbo"] - 1))


def test_patterns_lead_to_several_sweeps_whose_constants_differ(tmp_path: Path) -> None:
    for name, data in (("sweep_a", "mnist"), ("sweep_b", "celeba")):
        folder = write_fake_sweep(tmp_path / name, seeds=1, failed=3)
        manifest = json.loads(folder.manifest_file.read_text())
        manifest["constants"][0] = f"data={data}"
        folder.manifest_file.write_text(json.dumps(manifest))
    frame = vae.table(tmp_path / "sweep_*")
    # Not the failed ones.
    assert len(frame) == 30
    assert keys_of(frame) == ["data", "latent_size", "objective.k", "likelihood.sigma"]
    with pytest.raises(ConfigError, match=r"none\*: there is no such directory"):
        vae.table(tmp_path / "none*")


def test_means_are_over_the_seeds_with_intervals_of_students(sweep: SweepDirectory) -> None:
    found = means(vae.table(sweep.path), "test/elbo", level=0.9)
    assert len(found) == 18
    values = np.array([fake_elbo(2, 1, 0.1, seed) for seed in range(4)]) + NOISE[0]
    mean = found["", 2, 1, 0.1]
    low, high = t.interval(0.9, 3, values.mean(), values.std(ddof=1) / 2)
    assert (mean.mean - mean.half_width, mean.mean + mean.half_width) == pytest.approx((low, high))
    assert mean.n == 4


def test_the_best_is_tested_against_each_other_by_pairs(sweep: SweepDirectory) -> None:
    found = against_the_best(vae.table(sweep.path), "test/elbo")
    (best,) = (values for values, test in found.items() if test is None)
    cells = [(d, k, sigma) for d in (2, 8, 32) for k in (1, 5) for sigma in (0.1, 0.3, 1)]
    drawn = {
        ("", *cell): np.array([fake_elbo(*cell, seed) for seed in range(4)]) + NOISE[number]
        for number, cell in enumerate(cells)
    }
    assert best == max(drawn, key=lambda values: drawn[values].mean())
    p = {values: ttest_rel(drawn[best], drawn[values]).pvalue for values in found if values != best}
    # Holm's: the smallest of m times m, the next times m − 1, …, never falling.
    order, least = sorted(p, key=lambda values: p[values]), 0.0
    for place, values in enumerate(order):
        least = max(least, min(1.0, (len(order) - place) * p[values]))
        assert found[values].p == pytest.approx(least)
        assert found[values].difference == pytest.approx((drawn[best] - drawn[values]).mean())


def test_bold_is_only_what_the_tests_call_better_than_all(sweep: SweepDirectory) -> None:
    frame = vae.table(sweep.path)
    assert "**" not in text(frame, ["test/elbo"])
    sure = frame[frame["latent_size"] != 8]
    sure.loc[
        (sure["latent_size"] == 32) & (sure["objective.k"] == 1) & (sure["likelihood.sigma"] == 1), "test/elbo"
    ] += 900
    (bold,) = [line for line in text(sure, ["test/elbo"]).splitlines() if "**" in line]
    assert bold.startswith("| 32 | 1 | 1.0 | **")
    # Of an upper bound less is better, of which nothing was made here.
    assert "**" not in text(sure, ["evaluation/nll"])
    assert "mathbf" in text(sure, ["test/elbo"], "latex")


def test_nothing_is_better_across_kinds_of_likelihood(tmp_path: Path, composed) -> None:  # type: ignore[no-untyped-def]
    frame = vae.table(write_fake_kinds(tmp_path, composed).path)
    found = against_the_best(frame, "test/elbo")
    assert sum(test is None for test in found.values()) == 2
    assert text(frame, ["test/elbo"]).startswith("| of | likelihood | test/elbo |")


def test_runs_that_are_the_same_have_no_best(tmp_path: Path) -> None:
    folder = write_fake_sweep(tmp_path, seeds=2, failed=0)
    frame = vae.table(folder.path)
    frame["test/elbo"] = 1.0
    assert {test.p for test in against_the_best(frame, "test/elbo").values() if test} == {1.0}
    # Of one seed there is no test.
    alone = frame[frame["seed"] == 0]
    assert "±" not in text(alone, ["test/elbo"])


def test_the_command_writes_each_form(sweep: SweepDirectory, tmp_path: Path) -> None:
    done = call_command(
        "vae.table.__main__", f"runs={sweep.path}", "measure=[test/elbo,evaluation/nll]", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == (
        "| latent_size | objective.k | likelihood.sigma | test/elbo | evaluation/nll |"
    )
    assert len(done.stdout.splitlines()) == 20
    done = call_command("vae.table.__main__", f"runs=[{sweep.path}]", "format=latex", "out=t.tex", folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, "t.tex\n")
    lines = (tmp_path / "t.tex").read_text().splitlines()
    assert lines[0] == r"\begin{tabular}{llll}"
    assert lines[2] == r"latent\_size & objective.k & likelihood.sigma & test/elbo \\"
    assert len(lines) == 24
    csv = call_command("vae.table.__main__", f"runs={sweep.path}", "format=csv", folder=tmp_path).stdout
    assert (
        csv.splitlines()[0]
        == "latent_size,objective.k,likelihood.sigma,test/elbo,test/elbo ±,test/elbo n,test/elbo p"
    )


def test_nothing_named_is_one_line(tmp_path: Path) -> None:
    done = call_command("vae.table.__main__", folder=tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("error: runs=null: must be a directory")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["measure=test/nl"], "error: measure=test/nl: must be one of val/elbo, "),
        (["format=html"], "error: format=html: must be one of markdown, latex, csv"),
        (["level=95"], "error: level=95: must be a number of at least 0.5 and at most 0.9999"),
        (["runs=nowhere"], "error: nowhere: there is no such directory"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], line: str, sweep: SweepDirectory, tmp_path: Path) -> None:
    given = [*([] if "runs" in arguments[0] else [f"runs={sweep.path}"]), *arguments]
    done = call_command("vae.table.__main__", *given, folder=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(line), done.stderr
    assert done.stderr.count("\n") == 1
