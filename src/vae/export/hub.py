"""A folder as Hugging Face's hub has them: config.json, model.safetensors, and a model card with its pictures.

`load_model` reads it as it reads a run: as data, which may name no foreign code.
"""

import json
import shutil
from collections.abc import Hashable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from vae.checks import ConfigError
from vae.metric.definition import definition, position, what_is_scored
from vae.page.verdict import bound_sentence, command_of
from vae.run.checkpoint import read_weights
from vae.run.directory import EXPORTED, RunDirectory
from vae.run.files import open_atomically, read_json, to_json, write_atomically
from vae.run.trust import values

KEPT = (
    *("data", "network", "posterior", "prior", "likelihood", "latent_size", "init", "seed", "objective"),
    *("corruption", "optimizer", "on_nan", "on_nan_limit"),
)
"""Keys of a run's config that loading and evaluating its model needs; the others are of its author's machine."""
PLACES = ("path", "cache")
PICTURES = ("samples", "samples_density", "reconstructions", "manifold", "interpolations", "traversal")
OF_THE_BOUND = ("elbo", "nll", "distortion", "rate", "bits_per_dim", "active_units", "mse", "psnr", "ssim")


def write_weights(run: RunDirectory, checkpoint: str, folder: Path) -> None:
    """Write config.json and model.safetensors.

    Raises:
        ConfigError: this is no run, it has no such checkpoint, or safetensors is not installed.
    """
    path = run.checkpoint(checkpoint)
    try:
        from safetensors.torch import save
    except ModuleNotFoundError as error:
        raise ConfigError("safetensors is not installed; pip install -e '.[export]'") from error
    config = {"library_name": "vae", "version": version("vae"), **_shared(run.config())}
    write_atomically(folder / EXPORTED, to_json(config, indent=2) + "\n")
    with open_atomically(folder / "model.safetensors") as file:
        file.write(save(_once(read_weights(path)), metadata={"format": "pt"}))


def _once(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights, those of several names under the first of them; each with memory of its own."""
    first: dict[Hashable, str] = {}
    for name, tensor in weights.items():
        first.setdefault((tensor.data_ptr(), tensor.shape, tensor.stride()) if tensor.numel() else name, name)
    return {name: weights[name].clone() for name in first.values()}


def _shared(config: DictConfig) -> dict[str, Any]:
    """Return what of a config others need, without its author's folders."""
    whole = OmegaConf.to_container(config)
    assert isinstance(whole, dict)
    kept = {key: whole[key] for key in KEPT if key in whole}
    kept["data"] |= {key: "data" for key in PLACES if key in kept["data"]}
    return {**kept, "trainer": {"precision": whole["trainer"]["precision"]}}


def write_card(run: RunDirectory, checkpoint: str, folder: Path, repository: str | None = None) -> None:
    """Write README.md, what it is made of (metrics.json), and the pictures that it shows.

    Args:
        run: the run, which must be finished.
        checkpoint: whose weights the folder has.
        folder: where the weights are.
        repository: what the folder is called on the hub, if that is known.

    Raises:
        ConfigError: the run has no final numbers; or they are of other weights.
    """
    if not run.is_complete():
        raise ConfigError(f"{run.path}: has no metrics.json, of which a card is made; to=safetensors needs none")
    if checkpoint != "best":
        raise ConfigError(
            f"checkpoint={checkpoint}: must be best with to=hub, whose card has the numbers of best.ckpt"
        )
    shown = [name for name in PICTURES if (run.images / f"{name}.png").is_file()]
    for name in shown:
        (folder / "images").mkdir(parents=True, exist_ok=True)
        shutil.copyfile(run.images / f"{name}.png", folder / "images" / f"{name}.png")
    numbers = run.metrics() | _evaluated(run)
    write_atomically(folder / "metrics.json", to_json(numbers, indent=2) + "\n")
    write_atomically(folder / "README.md", card(run, numbers, shown, repository))


def _evaluated(run: RunDirectory) -> dict[str, float]:
    """Return the test's numbers by `vae.evaluate`, of which the NLL is from more draws; none where there are
    none.
    """
    found = read_json(run.path / "evaluation.json") or {}
    metrics = found.get("metrics") if found.get("checkpoint") == "best" else None
    return {name: v for name, v in (metrics or {}).items() if isinstance(v, int | float)}


def card(run: RunDirectory, numbers: Mapping[str, float], pictures: list[str], repository: str | None) -> str:
    """Return a model card in the hub's Markdown, with its numbers and where they come from."""
    config, name = run.config(), repository or "this folder"
    scored = what_is_scored(config)
    images = "images" if scored is None else scored.images
    packages = _packages(config)
    trust = f", trust={json.dumps(packages)}" if packages else ""
    lines = [
        "---",
        "library_name: vae",
        "pipeline_tag: unconditional-image-generation",
        "tags:\n- variational-autoencoder",
        f"datasets:\n- {images}",
        "---",
        f"# A variational autoencoder of {images}",
        f"{_parts(config)}; {numbers.get('parameters', 0):,.0f} weights.",
        "",
        bound_sentence(numbers) or "Its posterior is a point, so that there is no bound of log p(x).",
        "",
        "| of the test images | | |",
        "|---|---|---|",
        *_rows(numbers),
        "",
        f"The likelihood is {scored.kind}." if scored is not None else "",
        "",
        "```python",
        "from vae import load_model",
        "",
        f"model = load_model({json.dumps(name)}{trust})  # a folder: huggingface_hub.snapshot_download(…)",
        "model.sample(64)",
        "```",
        "| trained | |",
        "|---|---|",
        *(f"| {key} | {_cell(value)} |" for key, value in _origin(run, numbers)),
        "",
        *(f"![{name}](images/{name}.png)" for name in pictures),
    ]
    return "\n".join(lines) + "\n"


def _parts(config: DictConfig) -> str:
    keys = ("network.encoder", "posterior", "prior", "likelihood", "objective")
    names = [str(OmegaConf.select(config, key)["_target_"]).rpartition(".")[2] for key in keys]
    return f"{', '.join(names)}; {config.latent_size} latents"


def _packages(config: DictConfig) -> list[str]:
    """Packages of which the model has classes, apart from this one and its libraries."""
    whole = {
        "model": OmegaConf.to_container(OmegaConf.create({key: config[key] for key in KEPT if key in config}))
    }
    targets = [str(value) for key, value in values(whole) if key.endswith("._target_")]
    return sorted({target.partition(".")[0] for target in targets} - {"vae", "torch", "lightning", "torchmetrics"})


def _rows(numbers: Mapping[str, float]) -> Iterator[str]:
    """Yield the numbers with standard error, unit and meaning, and the draws of the NLL."""
    for name in sorted(OF_THE_BOUND, key=position):
        value = numbers.get(f"test/{name}")
        if value is None:
            continue
        error = numbers.get(f"test/{name}_stderr")
        unit, meaning, *_ = definition(name)
        if name == "nll":
            k, ess = numbers.get("test/nll_k"), numbers.get("test/nll_ess")
            meaning += f"; k = {k:g}, effective sample size {ess:.3g}" if k and ess else ""
        shown = f"{value:.6g}" + (f" ± {error:.2g}" if error is not None else "")
        yield f"| {name} | {shown} {unit} | {meaning} |".replace("q(z|x)", "q(z∣x)").replace("E[z|x]", "E[z∣x]")


def _origin(run: RunDirectory, numbers: Mapping[str, float]) -> Iterator[tuple[str, object]]:
    """Command, sources, machine and length of the training."""
    yield "command", f"`{command_of(run)}`"
    # Not as it was typed, nor where: that is of its author's machine.
    own = {key: value for key, value in run.origin().items() if key not in ("command", "host", "changes")}
    yield from ((key, value) for key, value in own.items() if value)
    yield from ((f"images: {split}", digest) for split, digest in run.image_digests().items())
    yield from (
        (key, f"{numbers[key]:g}") for key in ("epochs", "steps", "best_step", "seconds") if key in numbers
    )


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|")


def push(folder: Path, repository: str) -> str:
    """Send a folder to Hugging Face's hub; its address there.

    Raises:
        ConfigError: huggingface_hub is not installed, nobody has logged in, or the hub refuses.
    """
    try:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
    except ModuleNotFoundError as error:
        raise ConfigError(f"push={repository}: needs huggingface_hub; pip install -e '.[export]'") from error
    hub = HfApi()
    try:
        hub.create_repo(repository, exist_ok=True)
        return str(hub.upload_folder(repo_id=repository, folder_path=folder, commit_message="Export of vae"))
    except LocalTokenNotFoundError as error:
        raise ConfigError(
            f"push={repository}: nobody has logged in to the hub here; type hf auth login"
        ) from error
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise ConfigError(f"push={repository}: the hub refuses ({' '.join(str(error).split())[:300]})") from error
