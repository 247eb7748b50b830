"""Means over seeds of many runs, for a paper: python -m vae.table 'runs=[runs/mnist/sweep_*]' measure=test/nll."""

import sys
from typing import TYPE_CHECKING

from vae.command.command import command, quote_argument

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("table")
def print_table(config: "DictConfig") -> None:
    """Print a table of the runs, or write it to a file."""
    from pathlib import Path

    from vae.run.files import write_atomically
    from vae.sweep.table import table, text

    given = (config.runs, config.measure)
    where, measures = ([each] if isinstance(each, str) else list(each) for each in given)
    written = text(table(*where), measures, config.format, str(config.over), config.level)
    if config.out is None:
        print(written, end="")
    else:
        write_atomically(Path(config.out), written)
        print(config.out)


def main() -> None:
    """Run the command."""
    sys.argv = quote_argument(sys.argv, "runs", lists=True)
    print_table()


if __name__ == "__main__":
    main()
