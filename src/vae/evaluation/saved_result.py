"""Where the results of an evaluation are kept: beside the run, and in its W&B run."""

import os
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from vae.evaluation.page import html
from vae.evaluation.result import Result
from vae.run.directory import RunDirectory
from vae.run.files import write_atomically


def save(result: Result, config: DictConfig) -> Path:
    """Write evaluation.json and evaluation.html into the run's directory, and add the numbers to its W&B run.

    The names have the split after them where it is not the test split, so that one does not overwrite another.
    Returns the page.
    """
    stem = "evaluation" if result.split == "test" else f"evaluation_{result.split}"
    if config.get("data") is not None:
        stem += f"_{result.data}"
    write_atomically(Path(result.run) / f"{stem}.json", result.json())
    page = Path(result.run) / f"{stem}.html"
    write_atomically(page, html([result]))
    if config.log_to_wandb:
        add_to_wandb(result, stem)
    return page


def save_comparison(results: Sequence[Result]) -> list[Path]:
    """For several runs: one page of all, comparison.html in the folder that holds them."""
    if len(results) < 2:
        return []
    page = Path(os.path.commonpath([Path(result.run).absolute() for result in results])) / "comparison.html"
    write_atomically(page, html(results))
    return [page]


def add_to_wandb(result: Result, prefix: str) -> None:
    """Add the numbers to the summary of the run's W&B run, online or offline as the run was.

    Offline this makes a further folder of the same id below the run's wandb/, which `wandb sync` joins.
    """
    settings = (RunDirectory(result.run).config().get("logger") or {}).get("wandb")
    if settings is None:
        return
    import wandb

    with wandb.init(
        project=settings.project,
        id=settings.id,
        name=settings.get("name"),
        dir=result.run,
        mode=settings.mode,
        resume="allow",
        settings=wandb.Settings(silent=True),
    ) as run:
        run.summary.update({f"{prefix}/{name.partition('/')[2]}": v for name, v in result.metrics.items()})
