"""What the numbers of a run say, in words, and which command comes next."""

import shlex
import statistics
from collections.abc import Iterator, Mapping, Sequence
from math import inf, isfinite, nan, sqrt
from pathlib import Path
from typing import Literal, NamedTuple

from omegaconf import DictConfig, OmegaConf

from vae.metric.active_units import collapse_warning
from vae.page.curves import Curve
from vae.paths import TRAIN
from vae.run.directory import RunDirectory
from vae.run.trust import SEARCHPATH

FEWEST = 5
"""Validations from which on a curve is said to rise or fall."""

CURES = (
    ("likelihood.sigma", ("-m", "likelihood.sigma=0.5,0.3,0.15,0.1")),
    ("posterior.init_sigma", ("posterior.init_sigma=0.05",)),
)
"""What to try against a collapse, by the key that the run must have: docs/theory.md and docs/starts.md."""


class Remark(NamedTuple):
    """Something to know about a run: `good`, a `note` or a `warning`, and the command that comes next, if any."""

    kind: Literal["good", "note", "warning"]
    text: str
    command: str | None = None


def verdict(
    run: RunDirectory, config: DictConfig, curves: Mapping[str, Curve], metrics: Mapping[str, float | None]
) -> list[Remark]:
    """Return all that is to be said of a run: has it collapsed, would it rise further, does it overfit, what
    comes next?

    Args:
        run: its directory.
        config: its config.
        curves: its curves so far.
        metrics: its final numbers; empty while it trains.
    """
    found = [*_collapse(run, config, curves, metrics), *_course(run, config, curves)]
    found += _point(config)
    if metrics:
        found += _next(run, metrics, collapsed=any("collapse" in remark.text for remark in found))
    return found


def bound_sentence(metrics: Mapping[str, float | None]) -> str | None:
    """`log p(x) ≥ elbo; nll says the gap is about … nats`; None where there is no bound."""
    elbo, nll = metrics.get("test/elbo"), metrics.get("test/nll")
    if elbo is None or not isfinite(elbo):
        return None
    first = f"log p(x) ≥ elbo = {elbo:.4g} nats per image, a mean over the test images"
    if nll is None or not isfinite(nll):
        return first + "."
    return (
        f"{first}; nll, from {metrics.get('test/nll_k') or 0:g} draws of z per image, says that log p(x) is about"
        f" {-nll:.4g}: the gap KL(q(z|x)‖p(z|x)) is {_gap(elbo, nll, metrics)} nats."
    )


def _gap(elbo: float, nll: float, metrics: Mapping[str, float | None]) -> str:
    """Return how far the bound is below log p(x), of which the estimate falls short itself where one draw
    carries it.
    """
    k, ess = metrics.get("test/nll_k") or nan, metrics.get("test/nll_ess") or inf
    return f"{'at least' if ess < 2 <= k else 'about'} {max(-nll - elbo, 0):.2g}"


def closing_lines(run: RunDirectory, metrics: Mapping[str, float], seconds: float) -> str:
    """Return what a finished run tells its user: how long it took, the bound, what is wrong with it, where
    things are.
    """
    names = ("test/elbo", "test/nll", "test/distortion")
    # An autoencoder has no bound: its rate is infinite.
    numbers = [f"{name} {metrics[name]:.4g}" for name in names if isfinite(metrics.get(name, nan))][:2]
    lines = [f"Finished in {seconds:.0f} s: {', '.join(numbers)} (nats per image)"]
    if metrics.get("best_step") != metrics.get("steps"):
        lines.append(f"  weights   of step {metrics['best_step']:g} of {metrics['steps']:g}: the best validation")
    elbo, nll = metrics.get("test/elbo", nan), metrics.get("test/nll", nan)
    if isfinite(elbo) and isfinite(nll):
        gap = f"nll, from {metrics.get('test/nll_k', 0):g} draws, says the gap is {_gap(elbo, nll, metrics)} nats"
        lines.append(f"  gap       log p(x) ≥ elbo; {gap}")
    if (warning := collapse_warning(metrics.get("test/active_units"), metrics.get("test/rate"))) is not None:
        lines.append(f"  warning   {warning}")
    there = {
        "page": run.path / "run.html",
        "numbers": run.metrics_file,
        "pictures": run.images,
        "model": run.path,
    }
    lines += [f"  {name:<9} {path}" for name, path in there.items() if path.exists()]
    return "\n".join([*lines, f"  next      python -m vae.evaluate run={path_argument(run.path)}"])


def _collapse(
    run: RunDirectory, config: DictConfig, curves: Mapping[str, Curve], metrics: Mapping[str, float | None]
) -> Iterator[Remark]:
    def last(name: str) -> float | None:
        curve = curves.get(f"val/{name}")
        return curve.values[-1] if curve else None

    def has(key: str) -> bool:
        return OmegaConf.select(config, key) is not None

    numbers = [metrics.get(f"test/{name}", last(name)) for name in ("active_units", "rate")]
    if (warning := collapse_warning(*numbers)) is not None:
        yield Remark("warning", warning, next((command_of(run, *more) for key, more in CURES if has(key)), None))


def _course(run: RunDirectory, config: DictConfig, curves: Mapping[str, Curve]) -> Iterator[Remark]:
    """Yield what the bound on the validation images was doing at the end."""
    validation, training = curves.get("val/elbo"), curves.get("train/elbo")
    if validation is None or len(validation.values) < FEWEST:
        return
    values, epochs = validation.values, validation.epochs
    window = max(2, len(values) // 5)
    change, error = _change(values, window)
    best = max(range(len(values)), key=lambda place: values[place])
    since = epochs[-1] - epochs[-1 - window]
    level = statistics.fmean(values[-window:])
    fall, threshold = values[best] - level, max(2 * error, 0.1, 0.002 * abs(level))
    if change > threshold:
        longer = max(config.trainer.max_epochs, round(epochs[-1])) * 2
        yield Remark(
            "note",
            f"val/elbo is still rising: by {change:.2g} nats in the last {since:g} epochs; longer training pays",
            command_of(run, f"trainer.max_epochs={longer}"),
        )
    elif best < len(values) - 1 - window and fall > threshold and _rises(training, epochs[best]):
        yield Remark(
            "warning",
            f"overfitting: val/elbo was best after epoch {epochs[best]:g} and has fallen by {fall:.2g} nats since,"
            " while train/elbo rose; best.ckpt is of that epoch; a wider σ, fewer latents or more images help",
        )
    elif change < -threshold:
        yield Remark("note", f"val/elbo fell by {-change:.2g} nats over the last {since:g} epochs")
    else:
        yield Remark("good", f"val/elbo has levelled off at {level:.4g} nats")


def _change(values: Sequence[float], window: int) -> tuple[float, float]:
    """By how much the mean of the last `window` values is above that of those before them, and its standard error.

    The noise is that of successive differences, in which a slow rise hardly shows.
    """
    last, before = values[-window:], values[-2 * window : -window]
    differences = [b - a for a, b in zip(values[-2 * window : -1], values[-2 * window + 1 :], strict=True)]
    noise = statistics.stdev(differences) / sqrt(2) if len(differences) > 1 else inf
    return statistics.fmean(last) - statistics.fmean(before), noise * sqrt(2 / window)


def _rises(curve: Curve | None, epoch: float) -> bool:
    """Return whether a curve is higher at its end than at an epoch."""
    if curve is None:
        return False
    then = [value for at, value in zip(curve.epochs, curve.values, strict=True) if at <= epoch]
    return bool(then) and curve.values[-1] > then[-1]


def _point(config: DictConfig) -> Iterator[Remark]:
    if OmegaConf.select(config, "posterior._target_", default="").endswith(".Delta"):
        yield Remark(
            "note",
            "an autoencoder: q(z|x) is a point, so that there is no bound and no likelihood; samples need"
            " source=density",
        )


def _next(run: RunDirectory, metrics: Mapping[str, float | None], collapsed: bool) -> Iterator[Remark]:
    if collapsed:
        return
    where = f"run={path_argument(run.path)}"
    if metrics.get("test/nll") is not None:
        yield Remark(
            "note",
            f"the nll here is from {metrics.get('test/nll_k') or 0:g} draws; one to be quoted takes thousands, and"
            " comes with every other measure",
            f"python -m vae.evaluate {where}",
        )
    yield Remark("note", "all the pictures of this model", f"python -m vae.sample {where} picture=all")


def command_of(run: RunDirectory, *more: str) -> str:
    """Return the command that trains a run, with further overrides in place of its own."""
    given = overrides(run)
    keys = {argument.partition("=")[0] for argument in more}
    kept = [argument for argument in given if argument.partition("=")[0] not in keys]
    return " ".join([TRAIN, *(shlex.quote(argument) for argument in [*kept, *more])])


def overrides(run: RunDirectory) -> list[str]:
    """Return what was typed behind train.py."""
    ignored = ("hydra.", "hydra/", "resume=")
    kept = f"{SEARCHPATH}="
    return [a for a in run.arguments() if a.startswith(kept) or not a.lstrip("+~").startswith(ignored)]


def path_argument(path: Path) -> str:
    """Return a path for a command line, relative where it is below the current directory."""
    absolute = path.absolute()
    inside = absolute.is_relative_to(Path.cwd())
    return shlex.quote(str(absolute.relative_to(Path.cwd()) if inside else absolute))
