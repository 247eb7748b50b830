"""Which parts of a model make no sense together, told before any step is made."""

import torch
from torch import nn

from vae.bound.terms import Terms
from vae.checks import ConfigError
from vae.likelihood.likelihood import Likelihood
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
    if objective.needs_density and not model.posterior.has_density:
        raise ConfigError(
            "posterior=delta has no density, so that KL(q‖p) is infinite and there is no bound:"
            " use objective=reconstruction"
        )
    if not objective.trains_prior and any(True for _ in model.prior.parameters()):
        raise ConfigError(
            "objective=reconstruction does not train the prior: use prior=standard_normal, then fit_density"
        )
    chunked = objective.chunk is not None and objective.chunk < objective.draws
    if chunked and any(isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) for module in model.decoder.modules()):
        raise ConfigError(
            f"objective.chunk={objective.chunk}: network.norm=batch takes its statistics from all draws at once;"
            " use objective.chunk=null, or network.norm=group"
        )
    _try(model, objective)


def _check_likelihood(likelihood: Likelihood, objective: Objective, values: str) -> None:
    if likelihood.support == "bytes" and values != "bytes":
        raise ConfigError(
            f"likelihood={type(likelihood).__name__} is over the 256 levels of a byte, and the images are"
            " binarised: use data.binarize=none, or likelihood=bernoulli"
        )
    if objective.scales_paths and likelihood.couples_batch:
        raise ConfigError(
            "objective.gradient=dreg: needs draws that do not depend on one another, and likelihood="
            "gaussian_optimal takes its σ from all of them; use objective.gradient=standard"
        )
    chunked = objective.chunk is not None and objective.chunk < objective.draws
    if chunked and likelihood.couples_batch:
        raise ConfigError(
            f"objective.chunk={objective.chunk}: likelihood=gaussian_optimal takes its σ from all draws at once;"
            " use objective.chunk=null"
        )


@torch.no_grad()
def _try(model: LatentModel, objective: Objective) -> None:
    """Ask for the loss once, without the networks: a KL that has no closed form, for one, is told here."""
    with torch.random.fork_rng(devices=[]):
        features = torch.zeros(1, model.encoder.features)
        q = model.posterior(features)
        p = model.prior(lambda images: model.posterior(features.expand(len(images), -1)))
        z = model.draw(q, model.noise(objective.draws, 1))
        objective(Terms(torch.zeros(z.shape[:2]), z, q, p), 0)
