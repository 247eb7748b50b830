"""Names find their definitions, and stand in a readable order."""

from vae.metric.definition import definition, position


def test_the_most_specific_definition_counts() -> None:
    assert definition("fid_mnist").meaning.startswith("Fréchet distance of samples, in the features")
    assert definition("fid_mnist_density").meaning.startswith(
        "Fréchet distance of samples from the fitted density"
    )
    assert definition("nll_k").unit == "draws"
    assert definition("unheard_of").meaning == ""


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
