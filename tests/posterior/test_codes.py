"""Posteriors over codes: their probabilities, and that their bounds are below the sum over all codes."""

import itertools
import math
from functools import partial

import pytest
import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor
from torch.distributions import Categorical as TorchCategorical
from torch.distributions import Independent

from vae.bound.codes import OfCodes, OneHot
from vae.bound.importance import Defensive
from vae.bound.terms import Terms, analytic_kl
from vae.checks import ConfigError
from vae.data.digits import Digits
from vae.likelihood.bernoulli import Bernoulli
from vae.likelihood.gaussian import Gaussian
from vae.model import LatentModel
from vae.network.mlp import MLPDecoder, MLPEncoder
from vae.objective.elbo import ELBO
from vae.objective.iwae import IWAE
from vae.posterior.categorical import Categorical
from vae.posterior.exact import Exact
from vae.prior.categorical import Categorical as CategoricalPrior
from vae.prior.standard_normal import StandardNormal
from vae.prior.uniform import Uniform
from vae.training.combination import check_combination

SHAPE = (1, 3, 3)


def model_of(posterior: object, prior: object, latents: int, likelihood: object = Bernoulli) -> LatentModel:
    """A tiny model, its weights and its prior's far from their start."""
    encoder = partial(MLPEncoder, hidden_sizes=[6], activation="tanh")
    decoder = partial(MLPDecoder, hidden_sizes=[6], activation="tanh")
    model = LatentModel(SHAPE, latents, encoder, decoder, posterior, prior, likelihood)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    return model.eval()


def every_code(model: LatentModel) -> Tensor:
    """All codes of a model, (K^n, n)."""
    codes = model.posterior.codes
    assert codes is not None
    return torch.tensor(list(itertools.product(range(codes.classes), repeat=codes.count)))


def log_joint(model: LatentModel, x: Tensor) -> Tensor:
    """log p(x, c) of every code, (K^n, B), added up pixel by pixel and choice by choice."""
    z = model.posterior.vectors(every_code(model))[:, None].expand(-1, len(x), -1)
    p = model.prior(model.encode)
    return model.decode(z).log_prob(x) + p.log_prob(every_code(model))[:, None]


CODED = {
    "categorical": (partial(Categorical, classes=3), 3),
    "single": (partial(Categorical, classes=5), 1),
    "exact": (partial(Exact, classes=5), 1),
}


@pytest.mark.parametrize("prior", [Uniform, CategoricalPrior])
@pytest.mark.parametrize("name", CODED)
def test_the_bound_is_below_the_sum_over_all_codes(name: str, prior: object, float64: None) -> None:
    posterior, latents = CODED[name]
    model, x = model_of(posterior, prior, latents), torch.randint(0, 2, (4, *SHAPE)).double()
    log_px = log_joint(model, x).logsumexp(0)
    elbo = model.elbo(x, k=1 if model.posterior.enumerated else 20_000)
    assert (elbo < log_px + (1e-9 if name == "exact" else 0)).all()
    # By the definition of the ELBO over all codes.
    z = model.posterior.vectors(every_code(model))[:, None].expand(-1, len(x), -1)
    log_q = model.encode(x).log_prob(z)
    torch.testing.assert_close(log_q.logsumexp(0), torch.zeros(4))
    expected = (log_q.exp() * (log_joint(model, x) - log_q)).sum(0)
    torch.testing.assert_close(elbo, expected, atol=1e-9 if model.posterior.enumerated else 0.05, rtol=0)
    if name == "exact":
        torch.testing.assert_close(elbo, log_px)


@pytest.mark.parametrize("name", ["single", "exact"])
def test_one_latent_gives_log_p_of_x_exactly(name: str, float64: None) -> None:
    posterior, latents = CODED[name]
    model, x = model_of(posterior, CategoricalPrior, latents), torch.randint(0, 2, (4, *SHAPE)).double()
    log_px = log_joint(model, x).logsumexp(0)
    estimate = model.log_marginal(x, k=7)
    torch.testing.assert_close(estimate.log_px, log_px)
    assert (estimate.stderr == 0).all()
    assert list(estimate.convergence) == [1, 7]
    # The weighted bound is exact too: each class is drawn once.
    terms = model.terms(x, model.encode(x), model.noise(3, 4))
    torch.testing.assert_close(terms.iwae_bound, log_px)
    torch.testing.assert_close(IWAE(k=3)(terms, 0), -log_px.mean())
    torch.testing.assert_close(terms.sampled_rate, terms.kl)


def test_a_defensive_proposal_of_choices_is_a_probability_and_finds_log_p(float64: None) -> None:
    """Its parts sum to one over all codes, and its estimate is the sum over all codes."""
    model = model_of(partial(Categorical, classes=3), CategoricalPrior, 3)
    x = torch.randint(0, 2, (4, *SHAPE)).double()
    exact = log_joint(model, x).logsumexp(0)
    with torch.no_grad():
        q, p = model.encode(x), model.p_z()
        z = model.posterior.vectors(every_code(model))[:, None].expand(-1, 4, -1)
        assert isinstance(q, OneHot)
        torch.testing.assert_close(q.flatter(2.0).log_prob(z).exp().sum(0), torch.ones(4, dtype=torch.float64))
        log_r = Defensive(q, p).log_prob(z)
        torch.testing.assert_close(log_r.exp().sum(0), torch.ones(4, dtype=torch.float64))
        assert (log_r >= p.log_prob(z) - math.log(4) - 1e-9).all()
    estimate = model.log_marginal(x, 20_000, proposal="defensive")
    assert ((estimate.log_px - exact).abs() < 5 * estimate.stderr).all()
    assert (estimate.stderr < 0.2).all()  # of q's own draws a few carry it all here


def test_the_gradient_of_the_exact_posterior_is_that_of_log_p(float64: None) -> None:
    model, x = model_of(partial(Exact, classes=5), CategoricalPrior, 1), torch.randint(0, 2, (4, *SHAPE)).double()
    parameters = [*model.decoder.parameters(), *model.prior.parameters()]
    expected = torch.autograd.grad(log_joint(model, x).logsumexp(0).sum(), parameters)
    found = torch.autograd.grad(model.elbo(x).sum(), parameters)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def mixture(classes: int, sigma: float, means: Tensor) -> LatentModel:
    """`experiment=gaussian_mixture` on the digits, its table of means starting at these images."""
    shape = tuple(means.shape[1:])
    model = LatentModel(
        shape,
        1,
        partial(MLPEncoder, hidden_sizes=[], activation="relu"),
        partial(MLPDecoder, hidden_sizes=[], activation="relu"),
        partial(Exact, classes=classes),
        CategoricalPrior,
        partial(Gaussian, sigma=sigma),
    )
    with torch.no_grad():
        model.decoder.output.weight.copy_(means.flatten(1).T)
        model.decoder.output.bias.zero_()
    return model


def digits() -> Tensor:
    data = Digits(batch_size=64, val_size=180)
    data.setup()
    return data.images("train", 1000)[0]


def sklearn_of(means: Tensor, weights: Tensor, sigma: float) -> GaussianMixture:
    """scikit-learn's mixture at these parameters."""
    theirs = GaussianMixture(len(means), covariance_type="spherical")
    theirs.means_, theirs.weights_ = means.flatten(1).double().numpy(), weights.double().numpy()
    theirs.covariances_ = torch.full((len(means),), sigma**2).double().numpy()
    theirs.precisions_cholesky_ = torch.full((len(means),), 1 / sigma).double().numpy()
    return theirs


def test_the_mixture_is_scikit_learns() -> None:
    x = digits()
    model = mixture(10, 0.25, x[:10] + 0.1 * torch.randn(10, *x.shape[1:]))
    with torch.no_grad():
        model.prior.logits.copy_(torch.randn(1, 10))
    weights = model.prior.logits.detach()[0].softmax(-1)
    theirs = sklearn_of(model.decoder.output.weight.detach().T, weights, 0.25)
    assert model.elbo(x).mean().item() == pytest.approx(theirs.score(x.flatten(1).double().numpy()), abs=1e-4)
    log_px = model.log_marginal(x, k=1).log_px
    expected = torch.from_numpy(theirs.score_samples(x.flatten(1).double().numpy()))
    torch.testing.assert_close(log_px, expected, atol=1e-4, rtol=0)


def test_gradient_training_reaches_the_likelihood_of_em_from_the_same_start() -> None:
    x, sigma = digits(), 0.25
    flat = x.flatten(1).double()
    means, weights = flat[:10].clone(), torch.full((10,), 0.1).double()
    for _ in range(100):  # EM with a fixed σ
        distance = torch.cdist(flat, means).square() / (2 * sigma**2)
        r = (weights.log() - distance).softmax(1)
        weights, means = r.mean(0), (r.T @ flat) / r.sum(0)[:, None]
    em = sklearn_of(means, weights, sigma).score(flat.numpy())
    model = mixture(10, sigma, x[:10].clone())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        (-model.elbo(x).mean()).backward()
        optimizer.step()
    assert abs(model.elbo(x).mean().item() - em) < 1


@pytest.mark.parametrize("prior", [Uniform, CategoricalPrior])
def test_kl_of_choices_is_that_of_torch(prior: object, float64: None) -> None:
    model = model_of(partial(Categorical, classes=4), prior, 3)
    q, p = model.encode(torch.rand(5, *SHAPE)), model.p_z()
    theirs = Independent(TorchCategorical(logits=q.log_q), 1)
    expected = torch.distributions.kl_divergence(theirs, Independent(p.p.base_dist.expand((5, 3)), 1))
    torch.testing.assert_close(analytic_kl(q, p), expected)
    z = q.sample(torch.Size((20_000,)))
    sampled = q.log_prob(z) - p.log_prob(z)
    assert ((sampled.mean(0) - expected).abs() < 4.5 * sampled.std(0) / 20_000**0.5).all()


def test_draws_of_choices_are_codes_with_their_probabilities(float64: None) -> None:
    q = OneHot(torch.tensor([[[0.5, -1.0, 2.0], [0.0, 0.0, -3.0]]]))
    z = q.rsample(torch.Size((40_000,)))
    assert set(z.unique().tolist()) == {0.0, 1.0}
    assert (z.unflatten(-1, (2, 3)).sum(-1) == 1).all()
    assert ((z.mean(0) - q.mean).abs() < 4.5 * (q.variance / 40_000).sqrt()).all()


def test_the_straight_through_gradient_is_that_of_the_relaxed_draw(float64: None) -> None:
    logits = torch.randn(4, 2, 3, requires_grad=True)
    noise, weight = -torch.empty(5, 4, 6).exponential_().log(), torch.randn(5, 4, 6)
    gradients = [
        torch.autograd.grad((OneHot(logits, 0.7, relaxed).at(noise) * weight).sum(), logits)[0]
        for relaxed in (False, True)
    ]
    torch.testing.assert_close(*gradients)


def test_relaxed_draws_are_for_training_only() -> None:
    posterior = Categorical(4, 2, classes=3, gradient="gumbel")
    features, noise = torch.randn(5, 4), posterior.noise(2, 5)
    relaxed = posterior.draw(posterior(features), noise)
    hard = posterior.eval().draw(posterior(features), noise)
    assert not ((relaxed == 0) | (relaxed == 1)).all()
    assert ((hard == 0) | (hard == 1)).all()
    assert (relaxed.unflatten(-1, (2, 3)).argmax(-1) == posterior.codes_of(hard)).all()


@pytest.mark.parametrize("name", CODED)
def test_codes_and_vectors_are_the_same_thing(name: str) -> None:
    posterior, latents = CODED[name]
    model = model_of(posterior, Uniform, latents)
    codes = every_code(model)
    assert (model.posterior.codes_of(model.posterior.vectors(codes)) == codes).all()
    p = OfCodes(model.prior(model.encode), model.posterior, model.latent_size)
    z = p.sample(torch.Size((7,)))
    assert z.shape == (7, model.latent_size)
    count = model.posterior.codes.count  # type: ignore[union-attr]
    expected = torch.full((7,), -count * math.log(model.posterior.codes.classes))  # type: ignore[union-attr]
    torch.testing.assert_close(p.log_prob(z), expected)


def test_draws_in_chunks_are_the_same(float64: None) -> None:
    from vae.bound.chunk import terms_in_chunks

    model, x = model_of(partial(Categorical, classes=5), CategoricalPrior, 1), torch.rand(3, *SHAPE).round()
    q, noise = model.encode(x), model.noise(1, 3)
    whole, parts = model.terms(x, q, noise), terms_in_chunks(model, x, q, noise, 2, True, False)
    torch.testing.assert_close(parts.elbo, whole.elbo)
    torch.testing.assert_close(parts.iwae_bound, whole.iwae_bound)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Categorical(4, 2, classes=1), r"posterior\.classes=1: must be a whole number of at least 2"),
        (lambda: Categorical(4, 2, gradient="reinforce"), r"posterior\.gradient=reinforce: must be one of"),
        (lambda: Categorical(4, 2, temperature=0.0), r"posterior\.temperature=0\.0: must be a number above 0"),
        (lambda: Exact(4, 2), r"latent_size=2: must be 1 with posterior=exact"),
        (
            lambda: model_of(Categorical, StandardNormal, 2),
            r"posterior=Categorical gives codes.*use prior=uniform",
        ),
    ],
)
def test_bad_input_is_one_line(make: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()  # type: ignore[operator]


def test_a_relaxed_draw_has_no_probability() -> None:
    model = model_of(partial(Categorical, classes=3, gradient="gumbel"), Uniform, 2)
    check_combination(model, ELBO(), "binary")
    for objective in (ELBO(kl="monte_carlo"), IWAE(k=2)):
        with pytest.raises(ConfigError, match=r"posterior\.gradient=gumbel: a relaxed draw has no probability"):
            check_combination(model, objective, "binary")
    straight = model_of(partial(Categorical, classes=3), Uniform, 2)
    check_combination(straight, IWAE(k=2), "binary")
    with pytest.raises(ConfigError, match=r"objective\.gradient: must be standard with posterior=Categorical"):
        check_combination(straight, IWAE(k=2, gradient="stl"), "binary")


def test_terms_of_any_other_posterior_are_means_over_draws() -> None:
    values = torch.randn(4, 3)
    q = OneHot(torch.randn(3, 2, 3))
    terms = Terms(values, torch.zeros(4, 3, 6), q, q)
    torch.testing.assert_close(terms.distortion, -values.mean(0))
