"""Trained, the linear VAE reaches what probabilistic PCA knows to be the maximum likelihood."""

from functools import partial

import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from torch.distributions import MultivariateNormal

from drawn import drawn
from linear_gaussian import LINEAR, SHAPE, exact_log_px, linear_model
from vae.likelihood.gaussian import GaussianLearned
from vae.model import LatentModel
from vae.network.mlp import MLPDecoder, MLPEncoder
from vae.objective.iwae import IWAE
from vae.posterior.full_gaussian import FullGaussian
from vae.prior.standard_normal import StandardNormal
from vae.training.initialization import start_at


def test_full_gaussian_at_the_exact_posterior_has_the_exact_log_likelihood_as_its_elbo(float64: None) -> None:
    """For any W: q = N(M⁻¹ Wᵀ (x − b), σ² M⁻¹) with M = Wᵀ W + σ² I (Tipping & Bishop 1999, equation 7)."""
    model, x = linear_model(3, posterior=FullGaussian), torch.rand(5, *SHAPE)
    weight, bias = model.decoder.output.weight, model.decoder.output.bias
    sigma = model.likelihood.sigma
    m = weight.T @ weight + sigma**2 * torch.eye(3)
    gain = torch.linalg.solve(m, weight.T)
    scale = torch.linalg.cholesky(sigma**2 * torch.linalg.inv(m))
    rows, columns = torch.tril_indices(3, 3, offset=-1)
    with torch.no_grad():
        layer = model.posterior.mean_and_triangle
        layer.weight.zero_()[:3] = gain
        layer.bias.copy_(torch.cat((-gain @ bias, scale.diagonal().log(), scale[rows, columns])))
    terms = drawn(model, x, 4)
    exact = exact_log_px(model, x)
    torch.testing.assert_close(terms.log_w, exact.expand(4, -1), atol=1e-5, rtol=0)
    many = drawn(model, x, 200_000)
    stderr = many.log_px_z.std(0) / len(many.log_px_z) ** 0.5
    assert ((many.elbo - exact).abs() < 4.5 * stderr).all()


def test_trained_linear_vae_reaches_the_maximum_likelihood_of_ppca() -> None:
    latent_size, steps = 4, 2000
    x = torch.from_numpy(load_digits().images).float().div(16)[:, None]
    model = LatentModel(
        (1, 8, 8),
        latent_size,
        partial(MLPEncoder, **LINEAR),
        partial(MLPDecoder, **LINEAR),
        FullGaussian,
        StandardNormal,
        partial(GaussianLearned, init_sigma=0.3, min_sigma=1e-3),
    )
    start_at(model, x.mean(0))
    objective = IWAE(k=1, gradient="stl")  # whose noise vanishes where q is exact
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(drawn(model, x, 1), 0).backward()
        optimizer.step()
        schedule.step()
    weight, bias, sigma = model.decoder.output.weight, model.decoder.output.bias, model.likelihood.sigma
    with torch.no_grad():
        covariance = (weight @ weight.T + sigma**2 * torch.eye(64)).double()
        reached = MultivariateNormal(bias.double(), covariance).log_prob(x.flatten(1).double()).mean().item()
    pca = PCA(latent_size, svd_solver="full").fit(x.flatten(1).double().numpy())
    maximum = pca.score(x.flatten(1).double().numpy())
    assert reached == pytest.approx(maximum, abs=0.05)
    assert sigma.item() ** 2 == pytest.approx(pca.noise_variance_, rel=0.01)
    # The bound is nearly tight there, as the posterior can be exact; it still approaches.
    with torch.no_grad():
        bound = drawn(model, x, 200).elbo.mean().item()
    assert bound == pytest.approx(maximum, abs=0.1)
