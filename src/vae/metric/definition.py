"""What each number is, in the words that stand beside it in a report, and which numbers compare."""

import re
from typing import Any, NamedTuple

from hydra.utils import instantiate
from omegaconf import DictConfig


class Definition(NamedTuple):
    """The unit and the meaning of a number; `better` is `lower`, `higher` or empty.

    `of_likelihood`: it is in the nats or bits of log p(x|z), so that it compares only where `Scored` is the same.
    """

    unit: str
    meaning: str
    better: str = ""
    of_likelihood: bool = False


NATS = "nats/image"
DEFINITIONS = {
    "elbo": Definition(
        NATS, "E_q[log p(x|z)] − KL(q(z|x)‖p(z)), β = 1: a lower bound of log p(x)", "higher", of_likelihood=True
    ),
    "distortion": Definition(NATS, "−E_q[log p(x|z)]", "lower", of_likelihood=True),
    "rate": Definition(NATS, "KL(q(z|x)‖p(z)); elbo = −(distortion + rate)"),
    "bits_per_dim": Definition("bits", "−elbo / (C·H·W·ln 2)", "lower", of_likelihood=True),
    "nll": Definition(
        NATS,
        "−log p(x), importance-sampled with k draws: an upper bound in expectation",
        "lower",
        of_likelihood=True,
    ),
    "nll_k": Definition("draws", "k of the NLL"),
    "nll_stderr": Definition(NATS, "standard error of nll over images", of_likelihood=True),
    "nll_mc_stderr": Definition(
        NATS, "how far from exact it may be as k is finite: spread and remaining bias", of_likelihood=True
    ),
    "nll_pareto_k": Definition("", "shape k̂ of the largest weights, median over images: good below 0.5", "lower"),
    "nll_pareto_k_high": Definition("share", "images with k̂ above 0.7, whose nll is not to be relied on", "lower"),
    "nll_ess": Definition("draws", "effective sample size (Σw)²/Σw² of the k draws, mean over images", "higher"),
    "nll_poor": Definition("share", "images whose ESS is below a tenth of the median ESS", "lower"),
    "nll_at_*": Definition(NATS, "nll from the first of the same draws", of_likelihood=True),
    "nll_bits_per_dim": Definition("bits", "nll / (C·H·W·ln 2)", "lower", of_likelihood=True),
    "mutual_information": Definition("nats", "I_q(x; z) over the evaluated images, at most ln N"),
    "mutual_information_stderr": Definition("nats", "its standard error over images"),
    "mutual_information_exact": Definition("1 or 0", "whether q(z) was summed over all images"),
    "marginal_kl": Definition("nats", "KL(q(z)‖p(z)); rate = mutual_information + marginal_kl", "lower"),
    "marginal_kl_stderr": Definition("nats", "its standard error over images"),
    "code_usage": Definition("share", "of the K codes, those that some image has", "higher"),
    "code_perplexity": Definition("codes", "e^H of the codes' frequencies, at most K", "higher"),
    "dead_codes": Definition("codes", "that no image has", "lower"),
    "active_units": Definition("latents", "Var_x(E[z|x]) > 0.01 (Burda et al. 2016)"),
    "mse": Definition("x in [0,1]", "of the reconstruction from the posterior mean", "lower"),
    "psnr": Definition("dB", "−10 log₁₀ mse, mean over images", "higher"),
    "ssim": Definition("", "structural similarity (Wang et al. 2004)", "higher"),
    "linear_probe_accuracy": Definition("share", "logistic regression on E[z|x], cross-validated", "higher"),
    "knn_accuracy": Definition("share", "nearest neighbours in E[z|x], cross-validated", "higher"),
    "attribute_probe_accuracy": Definition("share", "logistic regression, mean over attributes", "higher"),
    "attribute_base_accuracy": Definition("share", "of always giving the commoner answer"),
    "fid_*": Definition("", "Fréchet distance of samples, in the features of the named network", "lower"),
    "fid_*_density": Definition("", "Fréchet distance of samples from the fitted density", "lower"),
    "fid_*_reconstruction": Definition("", "Fréchet distance of the reconstructions", "lower"),
    "kid_*": Definition("", "squared polynomial MMD of samples, in the same features", "lower"),
    "kid_*_stderr": Definition("", "standard error over subsets"),
    "kid_*_density": Definition("", "kernel distance of samples from the fitted density", "lower"),
    "kid_*_reconstruction": Definition("", "kernel distance of the reconstructions", "lower"),
    "precision_*": Definition("share", "samples within the manifold of real images", "higher"),
    "recall_*": Definition("share", "real images within the manifold of samples", "higher"),
    "loss": Definition("", "what training minimised", of_likelihood=True),
}
"""By name without the split; `*` stands for what a name is about, a number of draws or a feature network."""


SCORED = {
    ("real", "bytes"): "a density",
    ("real", "binary"): "a density",
    ("unit", "bytes"): "a density on [0, 1]",
    ("unit", "binary"): "a density on [0, 1]",
    ("bytes", "bytes"): "a probability of 256 levels",
    ("binary", "binary"): "a probability of 0 and 1",
    ("binary", "bytes"): "the Bernoulli's score of greys, no probability",
}
"""By the support of the likelihood and the values of x: what p(x|z) is."""
IMAGES = ("name", "size", "binarize")
"""The keys of a data config that say which images, and what of them, are scored."""


class Scored(NamedTuple):
    """What the bound of a run is of. Bounds compare where both are the same, other measures where `images` are."""

    images: str
    kind: str

    def __str__(self) -> str:
        return f"{self.images}: {self.kind}"


def what_is_scored(config: DictConfig) -> Scored:
    """Return the images of a run, and what p(x|z) is of them, from its config."""
    values = "bytes" if config.data.get("binarize", "none") == "none" else "binary"
    # Made, as of a likelihood of pixels one by one the kind is an option.
    likelihood = instantiate(config.likelihood)((1, 1, 1))
    return Scored(which_images(config.data), kind_of_likelihood(likelihood, values))


def which_images(data: DictConfig) -> str:
    """Return the images of a data config, in words."""
    of = [str(data[key]) for key in IMAGES if data.get(key) not in (None, "none")]
    name = str(data._target_).rpartition(".")[2]
    return " ".join([name, *(each for each in of if each != name)])


def kind_of_likelihood(likelihood: Any, values: str) -> str:
    """Return what p(x|z) is of x that takes these values, `bytes` or `binary`; given a likelihood or its class."""
    name = getattr(likelihood, "__name__", type(likelihood).__name__)
    return SCORED.get((getattr(likelihood, "support", ""), values), f"the likelihood {name}")


def definition(name: str) -> Definition:
    """Return the definition of a number by its name, without the split."""
    pattern = _pattern(name)
    return Definition("", "") if pattern is None else DEFINITIONS[pattern]


def position(name: str) -> tuple[int, int, str]:
    """Return where a number stands in a report."""
    pattern = _pattern(name)
    place = len(DEFINITIONS) if pattern is None else list(DEFINITIONS).index(pattern)
    return place, int(re.sub(r"\D", "", name) or 0), name


def _pattern(name: str) -> str | None:
    """Return the name in `DEFINITIONS` that fits best, which is the longest."""
    fitting = [pattern for pattern in DEFINITIONS if re.fullmatch(pattern.replace("*", ".+"), name)]
    return max(fitting, key=len, default=None)
