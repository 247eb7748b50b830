"""Priors over codes: they sum to one over all codes, and their draws have their probabilities."""

import itertools
from collections.abc import Callable
from functools import partial

import pytest
import torch

from vae.bound.codes import Codes
from vae.checks import ConfigError
from vae.prior.autoregressive import Autoregressive
from vae.prior.categorical import Categorical
from vae.prior.prior import Prior
from vae.prior.uniform import Uniform

PRIORS: dict[str, Callable[..., Prior]] = {
    "uniform": Uniform,
    "categorical": Categorical,
    "pixelcnn": partial(Autoregressive, channels=6, layers=2, kernel=3),
    "transformer": partial(Autoregressive, network="transformer", channels=8, layers=2, heads=2),
    "categorical of labels": partial(Categorical, condition="label", classes=3),
    "pixelcnn of labels": partial(Autoregressive, channels=6, layers=2, kernel=3, condition="label", classes=3),
    "transformer of labels": partial(
        Autoregressive, network="transformer", channels=8, layers=1, heads=2, condition="label", classes=2
    ),
}


def prior_of(name: str, codes: Codes) -> Prior:
    """With weights far from their start."""
    prior = PRIORS[name](99, (1, 2, 2))
    prior.take_codes(codes)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return prior


@pytest.mark.parametrize("codes", [Codes(2, 2, 3), Codes(1, 3, 4)])
@pytest.mark.parametrize("name", PRIORS)
def test_they_sum_to_one_and_draw_what_they_say(name: str, codes: Codes) -> None:
    p = prior_of(name, codes)(lambda x: x)
    every = torch.tensor(list(itertools.product(range(codes.classes), repeat=codes.count)))
    probability = p.log_prob(every).exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-5)
    draws = p.sample(torch.Size((20_000,)))
    assert draws.shape == (20_000, codes.count)
    places = codes.classes ** torch.arange(codes.count - 1, -1, -1)
    share = torch.bincount((draws * places).sum(1), minlength=len(every)) / 20_000
    assert ((share - probability).abs() < 5 * (probability / 20_000).sqrt() + 1e-4).all()
    assert p.sample(torch.Size((2, 3))).shape == (2, 3, codes.count)
    torch.testing.assert_close(p.log_prob(every.unflatten(0, (1, -1)))[0], p.log_prob(every))


OF_LABELS = [name for name in PRIORS if "labels" in name]


@pytest.mark.parametrize("name", OF_LABELS)
def test_with_labels_they_are_a_mixture_whose_parts_draw_what_they_say(name: str) -> None:
    """Σ_y p(c, y) = p(c), Σ_c p(c, y) = π_y, and draws given y have p(c, y) / π_y."""
    prior = prior_of(name, Codes(2, 1, 3))
    every = torch.tensor(list(itertools.product(range(3), repeat=2)))
    labels = torch.arange(prior.classes)
    joint = torch.stack([prior.of_labels(y.expand(len(every))).log_prob(every) for y in labels]).exp()
    torch.testing.assert_close(joint.sum(0), prior(lambda x: x).log_prob(every).exp())
    torch.testing.assert_close(joint.sum(1), prior.class_logits.softmax(0))  # type: ignore[operator]
    assert not torch.allclose(joint[0] / joint[0].sum(), joint[1] / joint[1].sum(), atol=0.05)
    draws = prior.of_labels(labels.repeat(5000)).sample().unflatten(0, (5000, -1))
    for y in labels:
        share = torch.bincount((draws[:, y] * torch.tensor([3, 1])).sum(1), minlength=9) / 5000
        expected = joint[y] / joint[y].sum()
        assert ((share - expected).abs() < 5 * (expected / 5000).sqrt() + 1e-3).all()


def test_from_labels_they_learn_which_codes_a_class_has() -> None:
    """Codes that are the class: by Bayes' rule p(y|c) ∝ p(c, y) tells it, and draws given y have it."""
    prior = PRIORS["categorical of labels"](99, (1, 2, 2))
    prior.take_codes(Codes(2, 2, 4))
    optimizer = torch.optim.Adam(prior.parameters(), lr=0.1)
    label = torch.arange(60) % 3
    codes = label[:, None].expand(-1, 4).clone()
    for _ in range(60):
        optimizer.zero_grad()
        (-prior.of_labels(label).log_prob(codes).mean()).backward()
        optimizer.step()
    joint = torch.stack([prior.of_labels(torch.full_like(label, y)).log_prob(codes) for y in range(3)])
    assert (joint.argmax(0) == label).all()
    assert (prior.of_labels(label).sample() == codes).double().mean() > 0.9


def test_labels_that_there_are_none_of_are_one_line() -> None:
    with pytest.raises(ConfigError, match=r"prior\.condition=label: these images have no labels"):
        Categorical(9, (1, 2, 2), condition="label")
    with pytest.raises(ConfigError, match=r"prior\.condition=class: must be"):
        Categorical(9, (1, 2, 2), condition="class", classes=3)
    with pytest.raises(ConfigError, match=r"prior\.classes=1: must be"):
        Autoregressive(9, (1, 2, 2), condition="label", classes=1)


@pytest.mark.parametrize("name", [name for name in PRIORS if name != "uniform"])
def test_every_parameter_gets_a_gradient(name: str) -> None:
    prior = prior_of(name, Codes(3, 3, 4))
    prior(lambda x: x).log_prob(torch.randint(4, (20, 9))).sum().backward()
    for parameter, value in prior.named_parameters():
        assert value.grad is not None, parameter
        assert value.grad.abs().sum() > 0, parameter


@pytest.mark.parametrize(
    ("options", "codes", "message"),
    [
        ({}, Codes(1, 1, 5), "prior=autoregressive: an image has a single code here"),
        ({"network": "rnn"}, Codes(2, 2, 5), r"prior\.network=rnn: must be one of pixelcnn, transformer"),
        ({"kernel": 4}, Codes(2, 2, 5), r"prior\.kernel=4: must be odd"),
        (
            {"network": "transformer", "heads": 3},
            Codes(2, 2, 5),
            r"prior\.channels=32: must be a multiple of heads=3",
        ),
    ],
)
def test_bad_input_is_one_line(options: dict[str, object], codes: Codes, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Autoregressive(9, (1, 2, 2), **options).take_codes(codes)  # type: ignore[arg-type]
