"""Names find their definitions, and stand in a readable order."""

from collections.abc import Callable

import pytest
from omegaconf import DictConfig

from vae.metric.definition import Scored, definition, position, what_is_scored
from vae.paths import CONF


def test_the_most_specific_definition_counts() -> None:
    assert definition("fid_mnist").meaning.startswith("Fréchet distance of samples, in the features")
    assert definition("fid_mnist_density").meaning.startswith(
        "Fréchet distance of samples from the fitted density"
    )
    assert definition("nll_k").unit == "draws"
    assert definition("unheard_of").meaning == ""


@pytest.mark.parametrize(
    ("overrides", "images", "kind"),
    [
        ([], "Digits", "a density"),
        (["likelihood=gaussian_optimal"], "Digits", "a density"),
        (["likelihood=continuous_bernoulli", "data=mnist"], "MNIST 28", "a density on [0, 1]"),
        (["likelihood=categorical"], "Digits", "a probability of 256 levels"),
        (["likelihood=discretized_logistic"], "Digits", "a probability of 256 levels"),
        (["likelihood=bernoulli", "data.binarize=dynamic"], "Digits dynamic", "a probability of 0 and 1"),
        (["likelihood=bernoulli"], "Digits", "the Bernoulli's score of greys, no probability"),
    ],
)
def test_what_the_bound_is_of(
    composed: Callable[..., DictConfig], overrides: list[str], images: str, kind: str
) -> None:
    assert what_is_scored(composed(*overrides)) == Scored(images, kind)


def test_every_likelihood_is_of_a_kind(composed: Callable[..., DictConfig]) -> None:
    for path in (CONF / "likelihood").glob("*.yaml"):
        scored = what_is_scored(composed(f"likelihood={path.stem}"))
        assert not scored.kind.startswith("the likelihood"), path.stem


def test_what_belongs_together_stands_together() -> None:
    names = [
        "kid_own",
        "nll_at_100",
        "fid_own_reconstruction",
        "unheard",
        "nll_at_10",
        "fid_own",
        "nll",
        "elbo",
    ]
    assert sorted(names, key=position) == [
        "elbo",
        "nll",
        "nll_at_10",
        "nll_at_100",
        "fid_own",
        "fid_own_reconstruction",
        "kid_own",
        "unheard",
    ]
