"""Measure trained runs: python -m vae.evaluate run=runs/… [k=5000] [split=test] [data=…], or sweep=runs/…."""

import sys
from typing import TYPE_CHECKING

from vae.checks import ConfigError
from vae.command.command import command, fail, quote_argument
from vae.sweep.evaluation import sweep_arguments

if TYPE_CHECKING:
    from omegaconf import DictConfig


@command("evaluate")
def evaluate(config: "DictConfig") -> None:
    """Evaluate each run, write evaluation.json and evaluation.html into it, and print one table of all runs."""
    from vae.command.distributed import children_run_this_command
    from vae.evaluation.evaluate_run import evaluate_run, find_runs, resolve
    from vae.evaluation.presentation import places, print_report, save, save_comparison
    from vae.progress import through

    resolve(config)
    runs, results, failed = find_runs(config.run), [], list[str]()
    with children_run_this_command():
        for run in through(runs, "evaluating", len(runs)):
            try:
                results.append(evaluate_run(run, config))
            except ConfigError as error:
                if len(runs) == 1:
                    raise
                failed.append(str(error))
    measured = [result for result in results if result is not None]
    if measured:
        print_report(measured)
        folders = places(measured, config.out)
        for result, folder in zip(measured, folders, strict=True):
            print(save(result, config, folder))
        for page in save_comparison(measured, folders):
            print(page)
    for line in failed:
        print(f"error: {line}", file=sys.stderr)
    if failed:
        raise SystemExit(1)


def main() -> None:
    """Run the command. Paths on its command line need no extra quotes for Hydra."""
    try:
        sys.argv = sweep_arguments(quote_argument(quote_argument(sys.argv, "run"), "out"))
    except ConfigError as error:
        raise SystemExit(fail(error, "evaluate")) from error
    evaluate()


if __name__ == "__main__":
    main()
