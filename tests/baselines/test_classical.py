"""Classical densities equal scikit-learn's and integrate to one, and the command prints them."""

import json
import math
from pathlib import Path

import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis
from sklearn.neighbors import KernelDensity
from torch import Tensor
from torch.distributions import MultivariateNormal

import vae
from commands import run_command, train_quickly
from vae.baselines.classical import (
    factor_analysis,
    fit_all,
    full_gaussian,
    gaussian_mixture,
    kernel_density,
    probabilistic_pca,
)
from vae.checks import ConfigError
from vae.sweep.table import text


@pytest.fixture
def x() -> Tensor:
    """Images of six pixels that depend on each other."""
    return (torch.randn(400, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64)) / 6 + 0.5


def test_they_are_scikit_learns(x: Tensor) -> None:
    train, test = x[:300], x[300:]
    pca = PCA(2).fit(train.numpy())
    # scikit-learn divides by N − 1, the likelihood's maximum is at N.
    scale = math.sqrt(299 / 300)
    ours = probabilistic_pca(train.mean(0) + (train - train.mean(0)) / scale, 2, 1e-6).log_prob(test)
    torch.testing.assert_close(ours, torch.from_numpy(pca.score_samples(test.numpy())))
    factors = FactorAnalysis(2, random_state=0, tol=1e-2).fit(train.numpy())
    expected = torch.from_numpy(factors.score_samples(test.numpy()))
    torch.testing.assert_close(factor_analysis(train, 2, 1e-6).log_prob(test), expected)
    normal = MultivariateNormal(train.mean(0), torch.cov(train.T, correction=0))
    torch.testing.assert_close(full_gaussian(train, 1e-6).log_prob(test), normal.log_prob(test))
    density = kernel_density(train, test, 0.05)
    h = float(density.name.rpartition(" ")[2])
    theirs = torch.from_numpy(KernelDensity(bandwidth=h).fit(train.numpy()).score_samples(test.numpy()))
    torch.testing.assert_close(
        density.log_prob(test), theirs, rtol=1e-2, atol=1e-2
    )  # h has three digits in the name


def test_every_density_integrates_to_one() -> None:
    flat = torch.rand(200, 2, dtype=torch.float64)
    side = torch.linspace(-3, 4, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)
    for model in fit_all(flat, flat, 1, 3, 0.1):
        total = model.log_prob(grid).exp().sum() * (7 / 400) ** 2
        assert total.item() == pytest.approx(1, abs=1e-3), model.name


def test_a_pixel_that_never_varies_gives_the_width_that_is_allowed() -> None:
    flat = torch.cat((torch.rand(200, 2), torch.zeros(200, 1)), 1).double()
    for sigma in (0.05, 0.5):
        at_it = full_gaussian(flat, sigma).log_prob(flat)
        alone = full_gaussian(flat[:, :2], sigma).log_prob(flat[:, :2])
        expected = alone - math.log(sigma) - 0.5 * math.log(2 * math.pi)
        torch.testing.assert_close(at_it, expected)


def test_what_cannot_be_is_one_line(x: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"components=500: must be at most the number of training images, 400"):
        gaussian_mixture(x, 500, 0.1)
    for fit in (probabilistic_pca, factor_analysis):
        with pytest.raises(ConfigError, match=r"latent_size=6: must be below the number of pixels, 6"):
            fit(x, 6, 0.1)


def test_the_command_prints_and_writes_them(tmp_path: Path) -> None:
    done = run_command("-m", "vae.baselines", "latent_size=8", f"out={tmp_path}/b.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())["models"]
    assert len(rows) == 5
    assert all(f"{row['test/nll']:.2f}" in done.stdout for row in rows)
    # As rows of the table that runs of the same images and a density of grey pixels have.
    run = train_quickly(tmp_path / "run")
    frame = vae.table(run, tmp_path / "b.json")
    assert len(frame) == 6
    assert frame["compares"].nunique() == 1
    assert set(frame["model"].dropna()) == {row["model"] for row in rows}
    assert list(frame["test/elbo"].iloc[1:]) == [-row["test/nll"] for row in rows]
    page = text(frame, ["test/elbo", "evaluation/nll"])
    gaussian = next(row for row in rows if row["model"] == "full Gaussian")
    assert f"| full Gaussian | {gaussian['test/elbo']:.5g} | {gaussian['test/nll']:.5g} |" in page
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"other\.json: not what vae\.baselines writes"):
        vae.table(tmp_path / "*.json")
    refused = run_command("-m", "vae.baselines", "data.binarize=dynamic", folder=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: data.binarize=dynamic: these densities are of grey images")
    assert refused.stderr.count("\n") == 1
