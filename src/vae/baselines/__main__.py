"""What needs no network, on the same images: python -m vae.baselines data=mnist [latent_size=32]."""

from typing import TYPE_CHECKING

from vae.command.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("baselines")
def main(config: "DictConfig") -> None:
    """Fit the classical models to the training images, print their log-likelihoods, and write them as JSON."""
    import json
    import time
    from pathlib import Path

    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from vae.baselines.classical import fit_all
    from vae.checks import ConfigError, check_choice, check_int, check_number
    from vae.likelihood.gaussian import Gaussian
    from vae.metric.definition import Scored, kind_of_likelihood, which_images
    from vae.metric.per_image import standard_error
    from vae.run.files import write_atomically
    from vae.training.build import data_name

    OmegaConf.resolve(config)
    latents, components = check_int("latent_size", config.latent_size), check_int("components", config.components)
    sigma = check_number("sigma", config.sigma, above=0)
    split = check_choice("split", config.split, ("train", "val", "test"))
    data = instantiate(config.data)
    if data.values == "binary":
        raise ConfigError(
            f"data.binarize={config.data.binarize}: these densities are of grey images; of binary ones train"
            " experiment=gaussian_mixture likelihood=bernoulli"
        )
    data.prepare_data()
    data.setup()
    images = {name: data.images(name, 2**31 - 1)[0].flatten(1).double() for name in ("train", "val", split)}
    started, rows = time.monotonic(), []
    for model in fit_all(images["train"], images["val"], latents, components, sigma):
        log_px = model.log_prob(images[split])
        mean = float(log_px.mean())
        numbers = {"nll": -mean, "nll_stderr": float(standard_error(log_px)), "elbo": mean}
        rows.append(
            {
                "model": model.name,
                "parameters": model.parameters,
                "seconds": round(time.monotonic() - started, 1),
                **{f"{split}/{key}": value for key, value in numbers.items()},
            }
        )
        started = time.monotonic()
    name = data_name(data)
    print(
        f"{name}, {len(images['train'])} training images: exact −log p(x) of {split} images in nats, σ ≥ {sigma:g}"
    )
    for row in rows:
        print(f"  {row['model']:<28} {row[f'{split}/nll']:>10.2f} ± {row[f'{split}/nll_stderr']:.2f}")
    path = Path(config.out or f"runs/{name}/baselines.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    compares = str(Scored(which_images(config.data), kind_of_likelihood(Gaussian, data.values)))
    write_atomically(path, json.dumps({"compares": compares, "models": rows}, indent=2, ensure_ascii=False) + "\n")
    print(path)


if __name__ == "__main__":
    main()
