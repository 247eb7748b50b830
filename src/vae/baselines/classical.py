"""Classical densities, whose log p(x) is exact: what a VAE of grey images must beat.

All are of x in [0, 1] and in nats per image, as the densities of `likelihood=gaussian` are. A pixel that never
varies would make them infinite, so none is narrower than `sigma` in any direction.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vae.checks import ConfigError
from vae.progress import task, through

ROWS = 1000
"""Images whose distances to all others are in memory at a time."""
BANDWIDTHS = 12
"""Widths of a kernel that are tried on validation images."""


@dataclass(frozen=True)
class Fitted:
    """A fitted model: its name, how many numbers were learned, and images (N, P) → log p(x) in nats (N,)."""

    name: str
    parameters: int
    log_prob: Callable[[Tensor], Tensor]


def gaussian(name: str, parameters: int, mean: Tensor, eigenvalues: Tensor, eigenvectors: Tensor) -> Fitted:
    """N(mean, V diag(λ) Vᵀ)."""

    def log_prob(x: Float[Tensor, "N P"]) -> Float[Tensor, " N"]:
        along = (x - mean) @ eigenvectors
        constant = eigenvalues.log().sum() + len(mean) * math.log(2 * math.pi)
        return -0.5 * ((along.square() / eigenvalues).sum(1) + constant)

    return Fitted(name, parameters, log_prob)


def full_gaussian(x: Float[Tensor, "N P"], sigma: float) -> Fitted:
    """Return the Gaussian of largest likelihood among those that are nowhere narrower than σ: λ_i = max(λ_i,
    σ²).
    """
    size = x.shape[1]
    mean, eigenvalues, eigenvectors = _spectrum(x)
    return gaussian(
        "full Gaussian", size + size * (size + 1) // 2, mean, eigenvalues.clamp(min=sigma**2), eigenvectors
    )


def probabilistic_pca(x: Float[Tensor, "N P"], latent_size: int, sigma: float) -> Fitted:
    """Return a linear VAE with D latents at its optimum: the D largest λ, the mean of the others (Tipping &
    Bishop 1999).

    It is what `likelihood=gaussian_learned` with linear networks tends to.
    """
    size = x.shape[1]
    _check_latents(latent_size, size)
    mean, eigenvalues, eigenvectors = _spectrum(x)
    rest = eigenvalues[latent_size:].mean()
    values = torch.cat((eigenvalues[:latent_size], rest.expand(size - latent_size)))
    learned = size * latent_size - latent_size * (latent_size - 1) // 2 + size + 1
    return gaussian(
        f"probabilistic PCA, D = {latent_size}", learned, mean, values.clamp(min=sigma**2), eigenvectors
    )


def factor_analysis(x: Float[Tensor, "N P"], latent_size: int, sigma: float) -> Fitted:
    """Return x = Wz + b + ε with a noise variance for each pixel (by scikit-learn), none of them below σ²."""
    from sklearn.decomposition import FactorAnalysis

    size = x.shape[1]
    _check_latents(latent_size, size)
    fit = FactorAnalysis(latent_size, random_state=0, tol=1e-2).fit(x.numpy())
    loadings = torch.from_numpy(fit.components_)
    noise = torch.from_numpy(fit.noise_variance_).clamp(min=sigma**2)
    eigenvalues, eigenvectors = torch.linalg.eigh(loadings.T @ loadings + noise.diag())
    mean = torch.from_numpy(fit.mean_)
    return gaussian(
        f"factor analysis, D = {latent_size}", size * (latent_size + 2), mean, eigenvalues, eigenvectors
    )


def gaussian_mixture(x: Float[Tensor, "N P"], components: int, sigma: float, seed: int = 0) -> Fitted:
    """Σ_i π_i N(m_i, diag s_i²) by EM (scikit-learn), σ² added to each variance."""
    from sklearn.mixture import GaussianMixture

    if components > len(x):
        raise ConfigError(f"components={components}: must be at most the number of training images, {len(x)}")
    fit = GaussianMixture(components, covariance_type="diag", reg_covar=sigma**2, random_state=seed).fit(x.numpy())
    learned = components * (2 * x.shape[1] + 1) - 1
    return Fitted(
        f"Gaussian mixture, K = {components}", learned, lambda x: torch.from_numpy(fit.score_samples(x.numpy()))
    )


def kernel_density(x: Float[Tensor, "N P"], validation: Float[Tensor, "M P"], sigma: float) -> Fitted:
    """Return the mean of N(x_i, h² I) over the training images, h from σ to 0.5, the best on validation images."""
    widths = torch.logspace(math.log10(sigma), math.log10(max(0.5, 2 * sigma)), BANDWIDTHS, dtype=x.dtype).tolist()
    square = _squared_distances(validation, x)
    scores = [_kernels(square, h, x.shape[1]).mean() for h in widths]
    best = widths[int(torch.stack(scores).argmax())]

    def log_prob(points: Float[Tensor, "N P"]) -> Float[Tensor, " N"]:
        parts = through(points.split(ROWS), "kernel density", math.ceil(len(points) / ROWS))
        return torch.cat([_kernels(_squared_distances(part, x), best, x.shape[1]) for part in parts])

    return Fitted(f"kernel density, h = {best:.3g}", x.numel() + 1, log_prob)


def fit_all(
    train: Float[Tensor, "N P"],
    validation: Float[Tensor, "M P"],
    latent_size: int,
    components: int,
    sigma: float,
) -> list[Fitted]:
    """Return every classical model, fitted to the same images."""
    fits: dict[str, Callable[[], Fitted]] = {
        "probabilistic PCA": lambda: probabilistic_pca(train, latent_size, sigma),
        "factor analysis": lambda: factor_analysis(train, latent_size, sigma),
        "full Gaussian": lambda: full_gaussian(train, sigma),
        "Gaussian mixture": lambda: gaussian_mixture(train, components, sigma),
        "kernel density": lambda: kernel_density(train, validation[:ROWS], sigma),
    }
    fitted = []
    for name, fit in fits.items():
        with task(f"fitting {name}"):
            fitted.append(fit())
    return fitted


def _spectrum(x: Float[Tensor, "N P"]) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean, and the covariance's eigenvalues from the largest with their vectors."""
    mean = x.mean(0)
    eigenvalues, eigenvectors = torch.linalg.eigh((x - mean).T @ (x - mean) / len(x))
    return mean, eigenvalues.flip(0).clamp(min=0), eigenvectors.flip(1)


def _squared_distances(a: Float[Tensor, "N P"], b: Float[Tensor, "M P"]) -> Float[Tensor, "N M"]:
    return (a.square().sum(1)[:, None] - 2 * a @ b.T + b.square().sum(1)).clamp(min=0)


def _kernels(square: Float[Tensor, "N M"], h: float, size: int) -> Float[Tensor, " N"]:
    constant = size * (math.log(h) + 0.5 * math.log(2 * math.pi)) + math.log(square.shape[1])
    return (square / (-2 * h * h)).logsumexp(1) - constant


def _check_latents(latent_size: int, size: int) -> None:
    if latent_size >= size:
        raise ConfigError(f"latent_size={latent_size}: must be below the number of pixels, {size}")
