"""A trained model for others: python -m vae.export run=runs/… to=hub|safetensors|onnx|torch."""

import sys
from typing import TYPE_CHECKING

from vae.command.command import command, quote_argument

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("export")
def export(config: "DictConfig") -> None:
    """Write the model in the form that is asked for, and print where it is."""
    from pathlib import Path

    from vae.checks import ConfigError
    from vae.export.graph import write_graphs
    from vae.export.hub import push, write_card, write_weights
    from vae.run.directory import RunDirectory
    from vae.run.files import check_folder

    run = RunDirectory(config.run)
    folder = Path(config.out or run.path / "export" / config.to)
    if config.push is not None and config.to != "hub":
        raise ConfigError(f"push={config.push}: must be null with to={config.to}; to=hub makes what a hub shows")
    check_folder(run.path)
    if config.to in ("onnx", "torch"):
        for line in write_graphs(run, config.checkpoint, folder, config.to):
            print(line)
        return
    write_weights(run, config.checkpoint, folder)
    if config.to == "hub":
        write_card(run, config.checkpoint, folder, config.push)
    print(folder)
    if config.push is not None:
        print(push(folder, config.push))


def main() -> None:
    """Run the command."""
    sys.argv = quote_argument(quote_argument(sys.argv, "run"), "out")
    export()


if __name__ == "__main__":
    main()
