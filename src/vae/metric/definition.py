"""What each number is, in the words that stand beside it in a report."""

import re
from typing import NamedTuple


class Definition(NamedTuple):
    """The unit and the meaning of a number; `better` is `lower`, `higher` or empty."""

    unit: str
    meaning: str
    better: str = ""


NATS = "nats/image"
DEFINITIONS = {
    "elbo": Definition(NATS, "E_q[log p(x|z)] − KL(q(z|x)‖p(z)), β = 1: a lower bound of log p(x)", "higher"),
    "distortion": Definition(NATS, "−E_q[log p(x|z)]", "lower"),
    "rate": Definition(NATS, "KL(q(z|x)‖p(z)); elbo = −(distortion + rate)"),
    "bits_per_dim": Definition("bits", "−elbo / (C·H·W·ln 2)", "lower"),
    "nll": Definition(NATS, "−log p(x), importance-sampled with k draws: an upper bound in expectation", "lower"),
    "nll_k": Definition("draws", "k of the NLL"),
    "nll_stderr": Definition(NATS, "standard error of nll over images"),
    "nll_mc_stderr": Definition(NATS, "the part of it that comes from k being finite"),
    "nll_ess": Definition("draws", "effective sample size (Σw)²/Σw² of the k draws, mean over images", "higher"),
    "nll_poor": Definition("share", "images whose ESS is below a tenth of the median ESS", "lower"),
    "nll_at_*": Definition(NATS, "nll from the first of the same draws"),
    "nll_bits_per_dim": Definition("bits", "nll / (C·H·W·ln 2)", "lower"),
    "mutual_information": Definition("nats", "I_q(x; z) over the evaluated images, at most ln N"),
    "mutual_information_exact": Definition("1 or 0", "whether q(z) was summed over all images"),
    "marginal_kl": Definition("nats", "KL(q(z)‖p(z)); rate = mutual_information + marginal_kl", "lower"),
    "marginal_kl_stderr": Definition("nats", "its standard error over images"),
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
    "loss": Definition("", "what training minimised"),
}
"""By name without the split; `*` stands for what a name is about, a number of draws or a feature network."""


def definition(name: str) -> Definition:
    """The definition of a number by its name, without the split."""
    pattern = _pattern(name)
    return Definition("", "") if pattern is None else DEFINITIONS[pattern]


def position(name: str) -> tuple[int, int, str]:
    """Where a number stands in a report."""
    pattern = _pattern(name)
    place = len(DEFINITIONS) if pattern is None else list(DEFINITIONS).index(pattern)
    return place, int(re.sub(r"\D", "", name) or 0), name


def _pattern(name: str) -> str | None:
    """The name in `DEFINITIONS` that fits best, which is the longest."""
    fitting = [pattern for pattern in DEFINITIONS if re.fullmatch(pattern.replace("*", ".+"), name)]
    return max(fitting, key=len, default=None)
