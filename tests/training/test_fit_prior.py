"""A prior that is fitted to a finished run: nothing else changes, and what comes of it is a run as any."""

import json
import math
from pathlib import Path

import pytest
import torch

from commands import TWO_RANKS, Ended, call_command, metrics_of, run_train, train_quickly, weights_of
from vae import load_model

QUICK = ["trainer.accelerator=cpu", "logger=csv", "callback.page=null", "callback.progress=null"]
CHAIN = ["prior=autoregressive", "prior.channels=8", "prior.layers=2", "trainer.max_epochs=1"]

# It is the run that goes on.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")


@pytest.fixture(scope="module")
def vq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of a VQ-VAE, an image of which has three of eight codes."""
    run = tmp_path_factory.mktemp("fitted") / "a run, k=1"
    codes = ["posterior=vector_quantized", "prior=uniform", "posterior.codes=8", "posterior.code_size=4"]
    return train_quickly(run, *codes, "name=vq", "data.batch_size=100")


def fit(run: Path, folder: Path, *arguments: str) -> Ended:
    overrides = [f"hydra.run.dir={folder}", *QUICK, *arguments]
    return call_command("vae.train", f"fit_prior_to={run}", *overrides, folder=run.parent)


def entropy(codes: torch.Tensor, classes: int) -> float:
    """Σ_i H of the frequencies at place i: the smallest mean rate of these codes under independent choices."""
    shares = torch.stack([column.bincount(minlength=classes) / len(column) for column in codes.T])
    return float(torch.special.entr(shares.double()).sum())


def test_a_table_of_frequencies_reaches_the_entropy_of_the_codes_and_nothing_else_changes(
    vq: Path, tmp_path: Path
) -> None:
    run = tmp_path / "fitted"
    done = fit(vq, run, "prior=categorical", "trainer.max_epochs=30", "optimizer.lr=0.1", "scheduler=cosine")
    assert done.returncode == 0, done.stderr
    before, after = weights_of(vq, "best"), weights_of(run, "best")
    new = {"model.prior.logits"}
    assert after.keys() == (before.keys() - {"model.prior.logits"}) | new
    assert [key for key in after.keys() - new if not torch.equal(before[key], after[key])] == []
    numbers, old = metrics_of(run), metrics_of(vq)
    assert numbers["test/distortion"] == old["test/distortion"]
    assert old["test/rate"] == pytest.approx(3 * math.log(8), rel=1e-5)
    model = load_model(run, "last")
    model.data.setup()
    with torch.no_grad():
        codes = model.model.encode(model.data.images("train", 5000)[0]).codes  # type: ignore[attr-defined]
        rate = -model.model.prior(model.model.encode).log_prob(codes).mean()
    least = entropy(codes, 8)
    assert least < float(rate) < least + 0.02
    assert json.loads((run / "metrics.json").read_text())["epochs"] == 30
    assert model.data.batch_size == 100


def test_it_resumes_to_the_last_bit_loads_and_samples(vq: Path, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert fit(vq, whole, *CHAIN, "trainer.max_epochs=2").returncode == 0
    assert fit(vq, parts, *CHAIN).returncode == 0
    resumed = call_command("vae.train", f"resume={parts}", "trainer.max_epochs=2", folder=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    states = weights_of(whole), weights_of(parts)
    assert states[0].keys() == states[1].keys()
    assert [key for key in states[0] if not torch.equal(states[0][key], states[1][key])] == []
    model = load_model(parts)
    assert model.sample(3, seed=1).shape == (3, 1, 8, 8)
    assert model.elbo(torch.rand(2, 1, 8, 8)).isfinite().all()


@pytest.mark.slow
def test_the_run_is_named_as_the_fitted_one_and_in_a_sweep_each_job_is_fitted(vq: Path) -> None:
    overrides = [*QUICK, *CHAIN, "metric.test={}", "callback.pictures=null"]
    arguments = [f"fit_prior_to={vq}", *overrides, "-m", "prior.channels=4,8"]
    done = call_command("vae.train", *arguments, folder=vq.parent)
    assert done.returncode == 0, done.stderr
    found = sorted(path.parent.name for path in (vq.parent / "runs" / "vq").glob("sweep_*/*/metrics.json"))
    assert found == ["prior.channels=4", "prior.channels=8"]


@pytest.mark.slow
def test_choices_that_are_drawn_may_have_a_prior_afterwards_that_they_could_not_be_trained_with(
    tmp_path: Path,
) -> None:
    drawn = train_quickly(
        tmp_path / "drawn", "posterior=categorical", "prior=uniform", "posterior.gradient=gumbel"
    )
    run = tmp_path / "fitted"
    done = fit(drawn, run, *CHAIN, "metric.test.nll.k=2")
    assert done.returncode == 0, done.stderr
    assert metrics_of(run)["test/nll_k"] == 2
    assert (
        "prior=Autoregressive"
        in call_command("vae.train", "posterior=categorical", *CHAIN, folder=tmp_path).stderr
    )


@pytest.mark.slow
def test_so_may_a_gaussian_posterior(tmp_path: Path) -> None:
    plain = train_quickly(tmp_path / "plain")
    run = tmp_path / "fitted"
    done = fit(plain, run, "prior=gaussian_mixture", "prior.components=2", "trainer.max_epochs=3")
    assert done.returncode == 0, done.stderr
    before, after = weights_of(plain, "best"), weights_of(run, "best")
    assert [key for key in before if not torch.equal(before[key], after[key])] == []


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["latent_size=3"], "error: latent_size: cannot be chosen with fit_prior_to="),
        (["experiment=fsq"], "error: experiment: cannot be chosen with fit_prior_to="),
        (["data=mnist"], "error: data: cannot be chosen with fit_prior_to="),
        (["prior=uniform"], "error: fit_prior_to: prior=Uniform has nothing that could be trained"),
        ([], "error: posterior=VectorQuantized gives codes, and prior=StandardNormal is over vectors"),
    ],
)
def test_what_cannot_be_is_one_line(arguments: list[str], line: str, vq: Path, tmp_path: Path) -> None:
    done = fit(vq, tmp_path / "run", *arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(line)
    assert done.stderr.count("\n") == 1


def test_a_run_that_is_not_there_or_not_finished_is_one_line(vq: Path, tmp_path: Path) -> None:
    done = fit(tmp_path / "nothing", tmp_path / "run")
    nothing = f"fit_prior_to={tmp_path / 'nothing'}"
    assert done.stderr.startswith(f"error: {nothing}: must be the directory of a finished run (")
    assert done.stderr.endswith("not a run directory (it has no .hydra/config.yaml))\n")
    begun = tmp_path / "begun"
    (begun / ".hydra").mkdir(parents=True)
    (begun / ".hydra" / "config.yaml").write_text((vq / ".hydra" / "config.yaml").read_text())
    assert "this run is not finished; resume=" in fit(begun, tmp_path / "run").stderr


@pytest.mark.slow
def test_two_ranks_fit_what_one_does(vq: Path, tmp_path: Path) -> None:
    weights = []
    for name, ranks in (("one", []), ("two", TWO_RANKS)):
        arguments = [
            f"fit_prior_to='{vq}'",
            *QUICK,
            *CHAIN,
            *ranks,
            "metric.test={}",
            f"hydra.run.dir={tmp_path / name}",
        ]
        done = run_train(*arguments)
        assert done.returncode == 0, done.stderr
        weights.append(weights_of(tmp_path / name))
    for key, value in weights[0].items():
        torch.testing.assert_close(value, weights[1][key], atol=2e-3, rtol=2e-2)
