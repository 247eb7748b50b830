"""Train the network in whose features images are compared: python -m vae.features data=mnist."""

from typing import TYPE_CHECKING

from vae.command.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("features")
def main(config: "DictConfig") -> None:
    """Train a small classifier of the labels or attributes, and write it to <paths.weights>/features_<data>.pt."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from vae.checks import check_int, check_number
    from vae.feature.network import features_file, save_classifier
    from vae.feature.training import accuracy, train_classifier
    from vae.training.build import data_name

    OmegaConf.resolve(config)
    steps = check_int("steps", config.steps)
    lr = check_number("lr", config.lr, above=0)
    data = instantiate(config.data, binarize="none")
    data.prepare_data()
    data.setup()
    network = train_classifier(data, steps, lr, check_int("seed", config.seed, minimum=0))
    path = features_file(config.paths.weights, data_name(data))
    save_classifier(network, path)
    share, what = accuracy(network, data)
    print(f"{path}: tells {share:.2%} of the {what} right")


if __name__ == "__main__":
    main()
