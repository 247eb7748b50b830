"""Train and measure the cells of a published table: python -m vae.reproduce table=burda [schedule=short|full]."""

import shlex
import sys
from typing import TYPE_CHECKING

from vae.command.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("reproduce")
def main(config: "DictConfig") -> None:
    """Train and measure what is not done yet, and write our numbers beside the published ones."""
    from pathlib import Path

    from omegaconf import OmegaConf

    from vae.checks import check_int
    from vae.reproduction.cells import evaluate_cells, train_cells
    from vae.reproduction.comparison import compare, markdown, to_json
    from vae.reproduction.table import read_table
    from vae.reproduction.table_figure import table_figure
    from vae.run.files import write_atomically

    table = read_table(config.table, config.schedule, config.rows)
    seeds = [check_int("seeds", seed, minimum=0) for seed in config.seeds]
    OmegaConf.resolve(config)
    folder = Path(f"runs/reproduce/{table.stem}" if config.folder is None else config.folder)
    status = train_cells(table, seeds, folder, config.train)
    if not (folder / "sweep.json").is_file() or status == 130:
        raise SystemExit(status)
    failed = evaluate_cells(table, folder, config.evaluate)
    # The folders of the files do not change the numbers.
    arguments = [argument for argument in sys.argv[1:] if not argument.startswith(("folder=", "results="))]
    found = compare(table, folder, seeds, shlex.join(["python", "-m", "vae.reproduce", *arguments]))
    page = Path(config.results) / f"{table.stem}.md"
    write_atomically(page.with_suffix(".json"), to_json(found))
    write_atomically(page, markdown(found))
    table_figure(found).savefig(page.with_suffix(".png"))
    print(markdown(found))
    print(page)
    if status or failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
