"""A conditional VAE: labels reach the encoder and the decoder, and its bounds are of log p(x|y)."""

from functools import partial

import pytest
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from linear_gaussian import LINEAR, SHAPE, SIGMA
from vae.bound.chunk import terms_in_chunks
from vae.checks import ConfigError
from vae.likelihood.gaussian import Gaussian
from vae.model import LatentModel
from vae.network.mlp import MLPDecoder, MLPEncoder
from vae.network.network import Decoder, Encoder
from vae.objective.elbo import ELBO
from vae.objective.objective import Objective
from vae.posterior.diagonal_gaussian import DiagonalGaussian
from vae.posterior.exact import Exact
from vae.prior.by_class import check_condition
from vae.prior.categorical import Categorical
from vae.prior.standard_normal import StandardNormal
from vae.prior.vamp import Vamp
from vae.training.combination import check_combination

CLASSES = 3


class ToldEncoder(Encoder):
    """A linear map of the image, with a shift for each class."""

    def __init__(self, image_shape: tuple[int, int, int], classes: int = CLASSES):
        super().__init__()
        self.classes, self.plain = classes, MLPEncoder(image_shape, **LINEAR)
        self.features = self.plain.features
        self.shift = nn.Parameter(torch.randn(classes, self.features))

    def forward(self, x: Float[Tensor, "B C H W"], label: Int64[Tensor, " B"]) -> Float[Tensor, "B F"]:
        return self.plain(x) + self.shift[label]


class ToldDecoder(Decoder):
    """x = W z + b + V y."""

    def __init__(self, latent_size: int, param_shape: tuple[int, int, int], classes: int = CLASSES):
        super().__init__()
        self.classes, self.plain = classes, MLPDecoder(latent_size, param_shape, **LINEAR)
        self.shift = nn.Parameter(torch.randn(classes, *param_shape))

    def forward(self, z: Float[Tensor, "N D"], label: Int64[Tensor, " N"]) -> Float[Tensor, "N P H W"]:
        return self.plain(z) + self.shift[label]

    def set_output_bias(self, params: Float[Tensor, "P H W"]) -> None:
        self.plain.set_output_bias(params)


def told_model(latent_size: int = 2, **parts: object) -> LatentModel:
    usual = {
        "encoder": ToldEncoder,
        "decoder": ToldDecoder,
        "posterior": DiagonalGaussian,
        "prior": StandardNormal,
        "likelihood": partial(Gaussian, sigma=SIGMA),
    }
    return LatentModel(SHAPE, latent_size, **usual | parts)


def images(count: int) -> tuple[Tensor, Tensor]:
    return torch.rand(count, *SHAPE), torch.arange(count) % CLASSES


@pytest.mark.usefixtures("float64")
def test_the_bound_and_its_gradients_are_those_written_by_hand() -> None:
    model, (x, y) = told_model(), images(7)
    noise = model.noise(4, len(x))
    loss = ELBO(k=4)(model.terms(x, model.encode(x, y), noise, label=y), 0)
    ours = torch.autograd.grad(loss, list(model.parameters()))

    features = x.flatten(1) + model.encoder.shift[y]
    head, out = model.posterior.mean_and_log_scale, model.decoder.plain.output
    mean, log_sigma = (features @ head.weight.T + head.bias).chunk(2, dim=1)
    z = mean + log_sigma.exp() * noise
    decoded = z @ out.weight.T + out.bias + model.decoder.shift[y].flatten(1)
    log_px = Normal(decoded, SIGMA).log_prob(x.flatten(1)).sum(-1).mean(0)
    rate = kl_divergence(Normal(mean, log_sigma.exp()), Normal(0.0, 1.0)).sum(1)
    by_hand = (rate - log_px).mean()
    torch.testing.assert_close(loss, by_hand)
    expected = torch.autograd.grad(by_hand, list(model.parameters()))
    for ours_of, expected_of in zip(ours, expected, strict=True):
        torch.testing.assert_close(ours_of, expected_of)
    assert all(gradient.abs().sum() > 0 for gradient in ours)


@pytest.mark.usefixtures("float64")
def test_importance_sampling_hits_the_exact_log_p_of_x_given_y() -> None:
    model, (x, y) = told_model(), images(40)
    weight, bias = model.decoder.plain.output.weight, model.decoder.plain.output.bias
    covariance = weight @ weight.T + SIGMA**2 * torch.eye(len(bias))
    exact = MultivariateNormal(bias + model.decoder.shift[y].flatten(1), covariance).log_prob(x.flatten(1))
    # So many draws at a time that images, and their labels, are decoded a few at a time.
    found = model.log_marginal(x, k=20_000, chunk=20_000, proposal="defensive", label=y).log_px
    torch.testing.assert_close(found, exact.detach(), atol=0.1, rtol=0)
    swapped = model.log_marginal(x, k=2000, proposal="defensive", label=(y + 1) % CLASSES).log_px
    assert (swapped - exact).abs().mean() > 0.5


def test_draws_in_chunks_and_further_axes_meet_the_labels_of_their_images() -> None:
    model, (x, y) = told_model(), images(5)
    q, noise = model.encode(x, y), model.noise(6, len(x))
    whole = model.terms(x, q, noise, label=y)
    parts = terms_in_chunks(model, x, q, noise, 2, densities=False, draws=False, label=y)
    torch.testing.assert_close(parts.log_px_z, whole.log_px_z)
    assert torch.equal(parts.label, y)
    z = torch.randn(2, 3, 5, 2)
    decoded = model.decode(z, y).mean
    for b in range(5):
        torch.testing.assert_close(decoded[:, :, b], model.decode(z[:, :, b : b + 1], y[b : b + 1]).mean[:, :, 0])


def test_what_needs_a_label_and_has_none_says_so_in_one_line() -> None:
    model, (x, _) = told_model(), images(2)
    with pytest.raises(ConfigError, match="label=null: ToldEncoder is told the class of each image, from 0 to 2"):
        model.encode(x)
    with pytest.raises(ConfigError, match="label=null: ToldDecoder is told"):
        model.decode(torch.zeros(2, 2))


def test_combinations_that_cannot_be_told_labels_are_refused() -> None:
    untold = partial(MLPEncoder, hidden_sizes=[], activation="relu")
    with pytest.raises(ConfigError, match="prior=Vamp is a mixture of posteriors of images without labels"):
        check_combination(told_model(prior=partial(Vamp, components=2)), ELBO(), "bytes")
    by_class = partial(Categorical, condition="label", classes=check_condition("label", CLASSES))
    of_choices = {"latent_size": 1, "encoder": untold, "posterior": partial(Exact, classes=2)}
    exact = told_model(**of_choices, prior=Categorical)
    with pytest.raises(ConfigError, match="posterior=Exact decodes every z once for all images"):
        check_combination(exact, ELBO(), "bytes")
    exact = told_model(**of_choices, decoder=partial(MLPDecoder, **LINEAR), prior=by_class)
    with pytest.raises(ConfigError, match=r"without labels, and objective=_UsesLabels uses labels"):
        check_combination(exact, _UsesLabels(1, None), "bytes")


class _UsesLabels(Objective):
    uses_labels = True

    def forward(self, terms: object, step: object) -> Tensor:
        raise AssertionError
