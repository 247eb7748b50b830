"""Which parts of a model make no sense together, told before any step is made."""

import torch
from torch import nn

from vae.bound.codes import OfCodes
from vae.bound.terms import Terms
from vae.checks import ConfigError
from vae.likelihood.likelihood import Likelihood
from vae.model import LatentModel
from vae.objective.objective import Objective
from vae.posterior.posterior import Posterior
from vae.prior.prior import Prior


def check_combination(model: LatentModel, objective: Objective, values: str, fits_prior: bool = False) -> None:
    """Refuse what cannot work together, and let the objective choose what was left open.

    Args:
        model: the model.
        objective: its objective.
        values: what x takes, `bytes` or `binary` (`ImageDataModule.values`).
        fits_prior: whether the prior alone is trained, so that no draw of z needs a gradient.

    Raises:
        ConfigError: why it cannot, in one line.
    """
    _check_likelihood(model.likelihood, objective, values)
    if objective.needs_density and not model.posterior.has_density:
        raise ConfigError(
            "posterior=delta has no density, so that KL(q‖p) is infinite and there is no bound:"
            " use objective=reconstruction"
        )
    if not model.posterior.uses_features and any(True for _ in model.encoder.parameters()):
        raise ConfigError(
            f"posterior={type(model.posterior).__name__} uses no encoder, and this one has weights: use"
            " network.hidden_sizes=[], or network=unconditional"
        )
    if not model.posterior.uses_features and model.prior.images_needed:
        raise ConfigError(
            f"prior={type(model.prior).__name__} is a mixture of posteriors, and those of"
            f" posterior={type(model.posterior).__name__} are all the same: use prior=standard_normal"
        )
    if model.encoder.classes and model.prior.images_needed:
        raise ConfigError(
            f"prior={type(model.prior).__name__} is a mixture of posteriors of images without labels, and"
            f" network={type(model.encoder).__name__} is told labels: use prior=standard_normal"
        )
    if model.decoder.classes and (model.posterior.enumerated or model.posterior.by_bayes):
        raise ConfigError(
            f"posterior={type(model.posterior).__name__} decodes every z once for all images, and"
            f" network={type(model.decoder).__name__} is told the label of each: use another posterior"
        )
    if model.prior.classes and (model.classes or objective.uses_labels):
        uses = "the network is told" if model.classes else f"objective={type(objective).__name__} uses"
        raise ConfigError(
            f"prior.condition=label: its bounds are of log p(x), without labels, and {uses} labels: use"
            " prior.condition=null"
        )
    if not objective.trains_prior and any(True for _ in model.prior.parameters()):
        raise ConfigError(
            "objective=reconstruction does not train the prior: use prior=standard_normal, then fit_density"
        )
    if model.posterior.codes is not None:
        _check_codes(model.posterior, model.prior, objective, fits_prior)
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


def _check_codes(posterior: Posterior, prior: Prior, objective: Objective, fits_prior: bool) -> None:
    name = f"posterior={type(posterior).__name__}"
    if posterior.deterministic and objective.weighs_draws:
        raise ConfigError(
            f"objective=iwae compares draws of z, and {name} gives one code to an image: use objective=elbo"
        )
    if posterior.deterministic and objective.draws > 1:
        raise ConfigError(
            f"objective.k={objective.draws}: must be 1 with {name}, which gives one code to an image"
        )
    if not posterior.deterministic and not prior.has_table and not fits_prior:
        raise ConfigError(
            f"prior={type(prior).__name__}: {name} draws codes, which would need a gradient that this prior does"
            " not give: use prior=categorical without prior.condition, or posterior=vector_quantized or"
            " finite_scalar; or fit this prior afterwards (fit_prior_to=<run>)"
        )
    if objective.moves_draws:
        raise ConfigError(f"objective.gradient: must be standard with {name}, whose z cannot be moved by a little")
    if posterior.relaxes and not fits_prior and objective.uses_log_densities:
        raise ConfigError(
            "posterior.gradient=gumbel: a relaxed draw has no probability; use"
            " posterior.gradient=straight_through, or objective=elbo objective.kl=analytic"
        )


@torch.no_grad()
def _try(model: LatentModel, objective: Objective) -> None:
    """Ask for the loss once, without the networks: a KL that has no closed form, for one, is told here."""
    with torch.random.fork_rng(devices=[]):
        codes = model.posterior.codes if model.posterior.by_bayes else None
        features = torch.zeros(1, codes.classes if codes else model.encoder.features)
        q = model.posterior(features)
        p = model.prior(lambda images: model.posterior(features.expand(len(images), -1)))
        if model.prior.over_codes:
            p = OfCodes(p, model.posterior, model.latent_size)
        objective.settle(q, p)
        z = model.draw(q, model.noise(objective.draws, 1))
        chunked = objective.chunk is not None and objective.chunk < objective.draws
        kept = z if objective.uses_draws or not chunked else None
        given = chunked and objective.uses_log_densities
        known = {"log_pz": p.log_prob(z), "log_qz": q.log_prob(z)} if given else {}
        scale = z.new_zeros(2, *z.shape[:2]) if objective.scales_paths else None
        label = torch.zeros(1, dtype=torch.int64) if objective.uses_labels else None
        objective(Terms(torch.zeros(z.shape[:2]), kept, q, p, scale, known, label), 0)
