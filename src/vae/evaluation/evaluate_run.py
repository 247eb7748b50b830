"""Every measure of a trained run, computed by the same test loop as in training."""

import glob
from collections.abc import Iterator
from dataclasses import asdict

import torch
from hydra.utils import instantiate
from lightning import Trainer
from omegaconf import DictConfig, OmegaConf, open_dict
from torchmetrics import Metric

from vae.bound.pareto import UNRELIABLE
from vae.callback.training_progress import TrainingProgress
from vae.checks import ConfigError, check_choice, check_int
from vae.data import ImageDataModule
from vae.evaluation.cost import measure_cost
from vae.evaluation.result import Result, asked_for
from vae.feature.network import MissingFeaturesError
from vae.metric.active_units import collapse_warning
from vae.metric.definition import Scored, kind_of_likelihood
from vae.metric.evaluated_batch import Sizes
from vae.run.checkpoint import digest, load_weights
from vae.run.directory import RunDirectory
from vae.run.files import check_folder
from vae.trained.load import data_config
from vae.training.build import build_module, data_name, sizes_of
from vae.training.module import VAEModule

FEW_DRAWS = 2
"""An NLL whose mean effective sample size is below this is called loose."""


def resolve(config: DictConfig) -> None:
    """Resolve a composed config. Where other images are chosen and no folder, it is that of training."""
    if config.get("data") is not None and config.paths.data is None:
        config.paths.data = "data"
    OmegaConf.resolve(config)


def find_runs(pattern: object) -> list[RunDirectory]:
    """Return the run directory of this path, or those among what a glob matches, sorted.

    Raises:
        ConfigError: there is none.
    """
    if not isinstance(pattern, str) or not pattern:
        raise ConfigError(f"run={pattern}: give a run directory, or a glob in quotes: run='runs/mnist/*'")
    exact = RunDirectory(pattern)
    if exact.path.exists():
        exact.config()
        return [exact]
    found = [RunDirectory(path) for path in sorted(glob.glob(pattern))]
    runs = [run for run in found if run.config_file.is_file()]
    if not runs:
        raise ConfigError(f"run={pattern}: there is no run directory (one with a .hydra/config.yaml) of this name")
    return runs


def evaluate_run(run: RunDirectory, config: DictConfig) -> Result | None:
    """Evaluate one run as conf/evaluate.yaml says; None on all ranks but the first.

    Raises:
        ConfigError: something in the run, in the config, or in the two together cannot work.
    """
    check_folder(run.path)
    checkpoint = run.checkpoint(config.checkpoint)
    run_config = run.config()
    data, own_shape = evaluated_data(run_config, config)
    if config.get("data") is None:
        data.note = run.compare_images
    module = evaluated_module(run_config, data, own_shape)
    load_weights(module.model, checkpoint, prefix="model.")
    load_weights(module.objective, checkpoint, prefix="objective.")
    metrics, notes = evaluation_metrics(config, sizes_of(module.model, data))
    module.replace_test_metrics(metrics)
    trainer = evaluating_trainer(config)
    trainer.test(module, data, verbose=False)
    if not trainer.is_global_zero:
        return None
    # The loop's names begin with the stage it believes in; what was evaluated may be another split.
    name = f"{config.split}/"
    result = Result(
        run=str(run.path),
        checkpoint=config.checkpoint,
        split=config.split,
        data=data_name(data),
        images=len(data.subsets[config.split]),
        seed=config.seed,
        metrics={name + key.removeprefix("test/"): value for key, value in module.latest.items()},
        per_latent={name + key.removeprefix("test/"): values for key, values in module.per_latent.items()},
        scored=Scored(data_name(data), kind_of_likelihood(module.model.likelihood, data.values)),
        asked=asked_for(config),
        weights=digest(checkpoint),
    )
    x = data.images(config.split, config.batch_size)[0].to(module.model.device)
    result.cost = asdict(measure_cost(module.model, x))
    of_metrics = [str(note) for metric in metrics.values() if (note := getattr(metric, "note", None))]
    result.notes = [*notes, *of_metrics, *remarks(result, data)]
    return result


def evaluated_data(run_config: DictConfig, config: DictConfig) -> tuple[ImageDataModule, tuple[int, int, int]]:
    """Return the images to evaluate on, and the shape of those that the run was trained on."""
    check_choice("split", config.split, ("train", "val", "test"))
    own = run_config.data
    own_shape = instantiate(own).image_shape
    if config.get("data") is None:
        chosen = data_config(run_config, config.paths)
    else:
        chosen = config.data.copy()
        chosen.binarize = own.binarize
    with open_dict(chosen):
        chosen.eval_batch_size = check_int("batch_size", config.batch_size)
        chosen.seed = check_int("seed", config.seed, minimum=0)
    data = instantiate(chosen)
    data.tested_split = config.split
    return data, own_shape


def evaluated_module(run_config: DictConfig, data: ImageDataModule, own_shape: tuple[int, int, int]) -> VAEModule:
    """Return the run's module, with weights still to be loaded and without metrics.

    Raises:
        ConfigError: the images are of another shape than those the run was trained on.
    """
    if data.image_shape != own_shape:
        here, there = ("×".join(map(str, shape)) for shape in (data.image_shape, own_shape))
        raise ConfigError(f"data={data_name(data)}: images of {here}, but the run was trained on {there}")
    bare = run_config.copy()
    with open_dict(bare):
        bare.metric, bare.scheduler = {"val": {}, "test": {}}, {}
    with torch.random.fork_rng(devices=[]):
        return build_module(bare, data)


def evaluation_metrics(config: DictConfig, sizes: Sizes) -> tuple[dict[str, Metric], list[str]]:
    """Return the metrics of the config, and a line for each that must be left out because files are missing."""
    metrics, notes = {}, []
    for name, metric in instantiate(config.metric.test).items():
        if metric is None:
            continue
        try:
            metrics[str(name)] = metric(sizes)
        except MissingFeaturesError as error:
            notes.append(f"no {name}: {error}")
    return metrics, notes


def evaluating_trainer(config: DictConfig) -> Trainer:
    """Lightning's Trainer for a test loop that logs nothing by itself."""
    return Trainer(
        **config.trainer,
        callbacks=[TrainingProgress()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def remarks(result: Result, data: ImageDataModule) -> Iterator[str]:
    """Yield what a reader of the numbers must know."""
    active, rate = result.number("active_units"), result.number("rate")
    if rate is None:
        yield "the posterior is a point, so that there is no bound, no rate and no likelihood of the images"
    elif warning := collapse_warning(active, rate):
        yield warning
    ess = result.number("nll_ess")
    if ess is not None and ess < FEW_DRAWS <= (result.number("nll_k") or 0):
        yield (
            f"of the {result.number('nll_k'):g} draws for the nll, {ess:.2g} carry it (nll_ess): it may be far"
            " above −log p(x), and nll_mc_stderr is too small; see nll_at_… and take a larger k"
        )
    if high := result.number("nll_pareto_k_high"):
        yield (
            f"{high:.1%} of the images have a Pareto k̂ above {UNRELIABLE:g} (nll_pareto_k_high): a few draws carry"
            " their nll, which may be far off; a larger k helps, and with few latents proposal=defensive"
        )
    if data.binarize == "dynamic":
        yield (
            f"dynamic binarisation: each image was drawn once, from seed={result.seed};"
            " another seed gives slightly other numbers"
        )
    if result.split == "train":
        yield "these are the training images: the numbers say how well they are fitted, no more"
