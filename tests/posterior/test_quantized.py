"""Vector and finite-scalar quantisation: codes, gradients, the codebook's steps, sums over all codes."""

import math
from collections.abc import Callable
from functools import partial
from itertools import product

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.distributions import kl_divergence

from vae.checks import ConfigError
from vae.likelihood.bernoulli import Bernoulli
from vae.model import LatentModel
from vae.network.mlp import MLPDecoder, MLPEncoder
from vae.network.spatial import SpatialDecoder, SpatialEncoder
from vae.posterior.finite_scalar import FiniteScalar
from vae.posterior.vector_quantized import VectorQuantized
from vae.prior.categorical import Categorical
from vae.prior.uniform import Uniform
from vae.training.build import build_module
from vae.training.combination import check_combination

SHAPE, F, N = (1, 3, 3), 6, 3
QUANTIZED = {
    "ema": partial(VectorQuantized, codes=4, code_size=2, kmeans=False),
    "gradient": partial(VectorQuantized, codes=4, code_size=2, kmeans=False, decay=None),
    "finite_scalar": partial(FiniteScalar, levels=[2, 3]),
}


def model_of(posterior: object, prior: object) -> LatentModel:
    encoder = partial(MLPEncoder, hidden_sizes=[F], activation="tanh")
    decoder = partial(MLPDecoder, hidden_sizes=[F], activation="tanh")
    model = LatentModel(SHAPE, N, encoder, decoder, posterior, prior, Bernoulli)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("prior", [Uniform, Categorical])
@pytest.mark.parametrize("name", QUANTIZED)
def test_distortion_and_rate_bound_the_sum_over_all_codes(name: str, prior: object, float64: None) -> None:
    model, x = model_of(QUANTIZED[name], prior), torch.randint(0, 2, (5, *SHAPE)).double()
    classes = model.posterior.codes.classes  # type: ignore[union-attr]
    codes = torch.tensor(list(product(range(classes), repeat=N)))
    z = model.posterior.vectors(codes)[:, None].expand(-1, len(x), -1)
    log_pc = model.prior(model.encode).log_prob(codes)
    torch.testing.assert_close(log_pc.logsumexp(0).item(), 0.0)
    log_joint = model.decode(z).log_prob(x) + log_pc[:, None]
    elbo = model.elbo(x)
    assert (elbo < log_joint.logsumexp(0)).all()
    # It is the joint probability of x and its own code.
    own = (codes[:, None] == model.encode(x).codes).all(-1)  # type: ignore[attr-defined]
    assert (own.sum(0) == 1).all()
    torch.testing.assert_close(elbo, log_joint[own.long().argmax(0), torch.arange(len(x))])
    if prior is Uniform:
        torch.testing.assert_close(
            kl_divergence(model.encode(x), model.p_z()), torch.full((5,), N * math.log(classes))
        )


@pytest.mark.parametrize("name", QUANTIZED)
def test_codes_and_vectors_are_the_same_thing(name: str) -> None:
    posterior = QUANTIZED[name](F, N)
    codes = torch.tensor(list(product(range(posterior.codes.classes), repeat=N)))
    assert (posterior.codes_of(posterior.vectors(codes)) == codes).all()
    q = posterior(torch.randn(5, F))
    assert (posterior.codes_of(q.mean) == q.codes).all()
    assert (posterior.vectors(q.codes) == q.rsample()).all()
    assert (q.log_prob(q.rsample(torch.Size((3,)))) == 0).all()
    assert (q.log_prob(q.mean + 1) == -torch.inf).all()


@pytest.mark.parametrize("name", ["ema", "gradient"])
def test_the_gradient_goes_straight_through(name: str, float64: None) -> None:
    posterior, features = QUANTIZED[name](F, N), torch.randn(5, F)
    weight = torch.randn(5, N * 2)
    q = posterior(features)
    (straight,) = torch.autograd.grad((q.mean * weight).sum(), posterior.project.weight)
    (expected,) = torch.autograd.grad(
        (posterior.vectors_of(features).flatten(1) * weight).sum(), posterior.project.weight
    )
    torch.testing.assert_close(straight, expected)


def test_the_penalty_is_the_papers_and_teaches_each_its_own(float64: None) -> None:
    posterior, features = QUANTIZED["gradient"](F, N, commitment=0.25), torch.randn(5, F)
    q = posterior(features)
    e, v = q.before.flatten(1), posterior.vectors(q.codes)
    penalty = posterior.penalty(q)
    torch.testing.assert_close(penalty, 1.25 * (e - v).square().sum(1))
    to_e, to_book = torch.autograd.grad(penalty.sum(), (q.before, posterior.codebook))
    torch.testing.assert_close(to_e.flatten(1), 2 * 0.25 * (e - v))
    expected = torch.zeros_like(posterior.codebook)
    for code, pull in zip(q.codes.flatten(), 2 * (v - e).reshape(-1, 2), strict=True):
        expected[code] += pull.detach()
    torch.testing.assert_close(to_book, expected)


def test_the_codebook_is_the_average_of_what_chose_it(float64: None) -> None:
    """After many steps with the same vectors: their centres, as one step of k-means gives them."""
    posterior, features = QUANTIZED["ema"](F, N, decay=0.5, restart_below=0.0), 3 * torch.randn(50, F)
    q = posterior(features)
    for _ in range(60):
        posterior._seen = q.before.detach().flatten(0, 1), q.codes.flatten()
        posterior.after_step()
    for code in q.codes.unique():
        mean = q.before[q.codes == code].mean(0)
        torch.testing.assert_close(posterior.codebook[code], mean, atol=1e-3, rtol=1e-3)
    torch.testing.assert_close(posterior.share, torch.bincount(q.codes.flatten(), minlength=4).double() / 150)


@pytest.mark.parametrize("name", ["ema", "gradient"])
def test_codes_that_nobody_chooses_start_again_in_the_batch(name: str) -> None:
    posterior = QUANTIZED[name](F, N, codes=8, restart_below=0.9)
    with torch.no_grad():
        posterior.codebook[1:] += 1000
    features = torch.randn(50, F)
    for _ in range(30):
        q = posterior(features)
        posterior.after_step()
    e = q.before.flatten(0, 1)
    assert (torch.cdist(posterior.codebook, e).min(1).values < 1).all()
    assert (posterior.share > 0).all()
    if name == "ema":
        again = posterior.total / posterior.share[:, None]
        torch.testing.assert_close(again, posterior.codebook, atol=1e-2, rtol=1e-2)


def test_a_step_that_is_not_finite_leaves_the_codebook() -> None:
    posterior = QUANTIZED["ema"](F, N)
    before = posterior.codebook.clone()
    posterior(torch.full((4, F), torch.nan))
    posterior.after_step()
    assert (posterior.codebook == before).all()


def test_evaluation_changes_nothing() -> None:
    posterior = QUANTIZED["ema"](F, N)
    before = {name: value.clone() for name, value in posterior.state_dict().items()}
    posterior.eval()(torch.randn(4, F))
    assert posterior._seen is None
    assert all((value == before[name]).all() for name, value in posterior.state_dict().items())


def test_kmeans_starts_at_the_centres() -> None:
    posterior = VectorQuantized(F, N, codes=4, code_size=2)
    centres = torch.tensor([[9.0, 0.0], [-9.0, 0.0], [0.0, 9.0], [0.0, -9.0]])
    with torch.no_grad():
        posterior.project.weight.zero_()
        posterior.project.weight[:, :F].copy_(torch.eye(F))
        posterior.project.bias.zero_()
    features = centres[torch.randint(4, (40, N))].flatten(1) + 0.01 * torch.randn(40, F)
    posterior.start_from_features(features)
    assert (torch.cdist(centres, posterior.codebook).min(1).values < 0.1).all()
    with pytest.raises(ConfigError, match=r"posterior\.codes=4: must be at most the 3 training images"):
        posterior.start_from_features(features[:3])


@pytest.mark.parametrize("levels", [[2], [3], [8, 5, 5, 5], [4, 7]])
def test_finite_scalars_take_every_level_and_no_other(levels: list[int], float64: None) -> None:
    posterior = FiniteScalar(F, 1, levels)
    e = torch.linspace(-8, 8, 4001)[:, None].expand(-1, len(levels))
    rounded = posterior.bounded(e).round()
    for j, level in enumerate(levels):
        assert rounded[:, j].unique().tolist() == list(range(-(level // 2), -(level // 2) + level))
    # At zero they are in the middle, so that no level is preferred at the start.
    torch.testing.assert_close(posterior.bounded(torch.zeros(1, len(levels))), torch.zeros(1, len(levels)))


@pytest.mark.parametrize(("image", "grid"), [((1, 28, 28), [7, 7]), ((3, 9, 6), [2, 1]), ((3, 9, 6), [4, 3])])
def test_spatial_networks_keep_the_places(image: tuple[int, int, int], grid: list[int]) -> None:
    """A code moves the image only around its place, and an image's corner only the code there."""
    encoder, count = SpatialEncoder(image, grid, 8, 1), grid[0] * grid[1]
    decoder = SpatialDecoder(5 * count, image, grid, 8, 1)
    posterior = VectorQuantized(encoder.features, count, 4, 5, grid=grid)
    features = encoder(torch.rand(2, *image))
    assert features.shape == (2, encoder.features)
    z = posterior(features).mean
    assert decoder(z).shape == (2, *image)
    if grid == [7, 7]:
        moved = z.clone()
        moved[:, :5] += 1  # the upper left place
        difference = (decoder(moved) - decoder(z)).abs().amax((0, 1))
        assert difference[:8, :8].max() > 0
        assert difference[20:, 20:].max() == 0
        corner = torch.rand(1, *image)
        other = corner.clone()
        other[..., :2, :2] += 1
        change = (posterior.vectors_of(encoder(other)) - posterior.vectors_of(encoder(corner))).abs().amax((0, 2))
        assert change[0] > 0
        assert change[-1] == 0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VectorQuantized(F, N, codes=1), r"posterior\.codes=1: must be a whole number of at least 2"),
        (lambda: VectorQuantized(F, N, code_size=0), r"posterior\.code_size=0"),
        (lambda: VectorQuantized(F, N, decay=1.0), r"posterior\.decay=1\.0: must be a number of at least 0"),
        (lambda: VectorQuantized(F, N, grid=[2, 2]), r"latent_size=3: must be 4, the codes on a grid of 2×2"),
        (
            lambda: VectorQuantized(5, 4, grid=[2, 2]),
            r"posterior\.grid=\[2, 2\]: the encoder's 5 features are no maps",
        ),
        (lambda: FiniteScalar(F, N, levels=[8, 1]), r"posterior\.levels=1: must be a whole number of at least 2"),
        (lambda: FiniteScalar(F, N, levels=[]), r"posterior\.levels=\[\]: must be a list"),
        (
            lambda: SpatialEncoder((1, 28, 28), [5, 5], 8, 1),
            r"network\.grid=\[5, 5\].*\[14,14\], \[7,7\], \[3,3\], \[1,1\]",
        ),
        (lambda: SpatialDecoder(50, (1, 28, 28), [7, 7], 8, 1), r"latent_size=50: must be a multiple of 49"),
    ],
)
def test_bad_input_is_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective=iwae"], r"objective=iwae compares draws of z, and posterior=VectorQuantized gives one code"),
        (["objective.k=5"], r"objective\.k=5: must be 1 with posterior=VectorQuantized"),
        (["objective.free_bits=1"], r"objective\.free_bits: needs latents that are independent"),
        (["prior=standard_normal"], r"posterior=VectorQuantized gives codes"),
    ],
)
def test_bad_combinations_are_one_line(
    overrides: list[str], message: str, composed: Callable[..., DictConfig]
) -> None:
    config = composed("posterior=vector_quantized", "prior=uniform", *overrides)
    with pytest.raises(ConfigError, match=message):
        build_module(config, instantiate(config.data))


def test_trying_a_combination_changes_no_codebook(composed: Callable[..., DictConfig]) -> None:
    config = composed("posterior=vector_quantized", "prior=uniform")
    module = build_module(config, instantiate(config.data))
    before = module.model.posterior.codebook.clone()
    check_combination(module.model, module.objective, "bytes")
    assert (module.model.posterior.codebook == before).all()
