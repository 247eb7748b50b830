"""Pictures from a trained run: python -m vae.sample run=runs/… [n=64] [picture=…]."""

import sys
from typing import TYPE_CHECKING

from vae.command.command import command, quote_argument

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("sample")
def sample(config: "DictConfig") -> None:
    """Draw the requested pictures, and print their paths."""
    from vae.generation.gallery import Gallery

    for path in Gallery(config).draw():
        print(path)


def main() -> None:
    """Run the command. Paths on its command line need no extra quotes for Hydra."""
    sys.argv = quote_argument(quote_argument(sys.argv, "run"), "images", lists=True)
    sample()


if __name__ == "__main__":
    main()
