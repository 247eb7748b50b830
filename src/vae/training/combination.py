"""Which parts of a model make no sense together, told before any step is made."""

import torch
from torch import nn

from vae.bound.latent import analytic_kl, latent_kl
from vae.checks import ConfigError
from vae.model import LatentModel
from vae.objective.objective import Objective


def check_combination(model: LatentModel, objective: Objective, values: str) -> None:
    """Refuse what cannot work together.

    Args:
        model: the model.
        objective: its objective.
        values: what x takes, `bytes` or `binary` (`ImageDataModule.values`).

    Raises:
        ConfigError: why it cannot, in one line.
    """
    _check_likelihood(model.likelihood, objective, values)
    if objective.needs.density and not getattr(model.posterior, "has_density", True):
        raise ConfigError(
            "posterior=delta has no density, so that KL(q‖p) is infinite and there is no bound:"
            " use objective=reconstruction"
        )
    if not objective.needs.prior and any(True for _ in model.prior.parameters()):
        raise ConfigError(
            "objective=reconstruction does not train the prior: use prior=standard_normal, then fit_density"
        )
    if objective.needs.kl == "required" or objective.needs.latent_kl != "none":
        _check_kl(model, objective)


def _check_likelihood(likelihood: nn.Module, objective: Objective, values: str) -> None:
    if likelihood.support == "bytes" and values != "bytes":
        raise ConfigError(
            f"likelihood={type(likelihood).__name__} is over the 256 levels of a byte, and the images are"
            " binarised: use data.binarize=none, or likelihood=bernoulli"
        )
    chunked = objective.chunk is not None and objective.chunk < objective.draws
    if chunked and getattr(likelihood, "couples_batch", False):
        raise ConfigError(
            f"objective.chunk={objective.chunk}: likelihood=gaussian_optimal takes its σ from all draws at once;"
            " use objective.chunk=null"
        )


@torch.no_grad()
def _check_kl(model: LatentModel, objective: Objective) -> None:
    """Ask for the KLs once, without the encoder."""
    with torch.random.fork_rng(devices=[]):
        features = torch.zeros(1, model.encoder.features)
        q = model.posterior(features)
        p = model.prior(lambda images: model.posterior(features.expand(len(images), -1)))
        analytic_kl(q, p, required=objective.needs.kl == "required")
        if objective.needs.latent_kl != "none":
            latent_kl(q, p, q.rsample(torch.Size((1,))), objective.needs.latent_kl == "analytic")
