"""`fit_prior_to=<run>`: a prior that is trained afterwards, on a finished run that stays as it is otherwise."""

from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from vae.checks import ConfigError
from vae.command.command import keys_of, quote_argument, trust_of
from vae.command.distributed import SAVED
from vae.command.override import override
from vae.run.saved_config import readers_data
from vae.run.trust import trusting

if TYPE_CHECKING:
    from vae.model import LatentModel
    from vae.run.directory import RunDirectory

KEY = "fit_prior_to"
TAKEN = ("data", "corruption", "network", "posterior", "likelihood", "latent_size", "suits", "budget")
"""What of a config is the fitted run's."""
OWN = ("data.batch_size", "data.eval_batch_size", "data.device", "data.path", "data.cache")
"""What of that may be another."""
WITHOUT_EFFECT = ("experiment", "for_data", "start_from_mean")
FROZEN = ("encoder", "posterior", "decoder", "likelihood")
"""Parts of a model that stay as they are where a prior is fitted to it."""


def name_after(argv: list[str]) -> list[str]:
    """Put the run of a `fit_prior_to=<run>` in quotes, and name the new run as that one, unless it has a name.

    Raises:
        ConfigError: there is no such run.
    """
    given = [argument for argument in argv[1:] if argument.startswith(f"{KEY}=")]
    path = given[-1].partition("=")[2] if given else ""
    if path in ("", "null") or keys_of(argv[1:]) & {"resume", "rerun"}:
        return argv
    with trusting(trust_of(argv[1:])):
        name = fitted_run(path).config().name
    named = [] if "name" in keys_of(argv[1:]) else [override("name", name)]
    return [*quote_argument(argv, KEY), *named]


def fitted_run(path: str) -> "RunDirectory":
    """Return the run to whose codes or latents a prior is fitted.

    Raises:
        ConfigError: there is none, or it has not been finished.
    """
    from vae.run.directory import RunDirectory  # not above: it needs torch, for which --help need not wait

    run = RunDirectory(path.strip("'\""))
    try:
        run.config()
    except ConfigError as error:
        raise ConfigError(f"{KEY}={run.path}: must be the directory of a finished run ({error})") from error
    if not run.is_complete():
        raise ConfigError(f"{KEY}={run.path}: this run is not finished; resume={run.path} goes on with it")
    return run


def take_parts(config: DictConfig) -> None:
    """Put what the run of `fit_prior_to` says of its images and of all but the prior into a composed config.

    A config that was saved has all that already.

    Args:
        config: not yet resolved.

    Raises:
        ConfigError: there is no such run, or what was typed would be without effect.
    """
    is_composed = HydraConfig.initialized() and HydraConfig.get().job.config_name != SAVED
    if config[KEY] is None or not is_composed:
        return
    run, typed = fitted_run(config[KEY]), keys_of(HydraConfig.get().overrides.task)
    for key in typed:
        if key in WITHOUT_EFFECT or (key.partition(".")[0] in TAKEN and key not in OWN):
            raise ConfigError(
                f"{key}: cannot be chosen with {KEY}={run.path}, which says it; only the prior is new"
            )
    saved = run.config()
    own = {key: config.data[key.removeprefix("data.")] for key in OWN if key in typed}
    images = config.paths.data if "paths.data" in typed else None
    config.data = {**readers_data(saved, images), "seed": "${seed}"}
    for key in TAKEN[1:]:
        config[key] = saved.get(key)
    # Of which a run that is older says nothing.
    config.suits = {"classes": None, **saved.suits}
    for key, value in own.items():
        config.data[key.removeprefix("data.")] = value
    if "trainer.max_epochs" not in typed:
        config.trainer.max_epochs = saved.trainer.max_epochs
    config.start_from_mean = False
    config[KEY] = str(run.path.absolute())


def keep_all_but_prior(model: "LatentModel") -> None:
    """Have every part but the prior stay as it is: in evaluation mode, and without gradients.

    Raises:
        ConfigError: there is nothing to train.
    """
    for part in FROZEN:
        getattr(model, part).requires_grad_(False).eval()
    if not any(True for _ in model.prior.parameters()):
        raise ConfigError(f"fit_prior_to: prior={type(model.prior).__name__} has nothing that could be trained")


def load_parts(model: "LatentModel", path: str) -> None:
    """Load everything but the prior from the fitted run's best checkpoint."""
    from vae.run.checkpoint import load_weights

    checkpoint = fitted_run(path).checkpoint()
    for part in FROZEN:
        load_weights(getattr(model, part), checkpoint, prefix=f"model.{part}.")
