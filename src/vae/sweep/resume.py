"""`resume=<run or sweep>` as the arguments of what was saved there."""

import sys
from pathlib import Path

from vae.checks import ConfigError
from vae.command.command import keys_of, one_word_flags, trust_of
from vae.command.distributed import RERUN, saved_arguments
from vae.command.override import override
from vae.run.files import check_folder
from vae.run.saved_config import check_arguments
from vae.run.trust import trusting
from vae.sweep.directory import SweepDirectory


def resume_arguments(argv: list[str]) -> list[str]:
    """Turn `resume=<run>` into arguments that take up that run's saved config, in place.

    Other overrides apply on top of the saved config, as in `resume=runs/… trainer.max_epochs=100`.
    For a sweep's directory they are the arguments of the sweep, with the others in place of its own. What may
    change is for `vae.run.resume` to say, once all is composed.
    """
    given = {key: [a for a in argv[1:] if a.startswith(f"{key}=")] for key in ("resume", RERUN)}
    if given[RERUN]:
        from vae.run.directory import RunDirectory  # not above: it needs torch, for which --help need not wait

        path = Path(given[RERUN][-1].removeprefix(f"{RERUN}="))
        return [argv[0], *saved_arguments(path, RunDirectory(path).config())]
    if not given["resume"] or given["resume"][-1] in ("resume=", "resume=null"):
        return argv
    from vae.run.directory import RunDirectory

    path = Path(given["resume"][-1].removeprefix("resume=")).expanduser()
    others = one_word_flags([argument for argument in argv[1:] if argument not in given["resume"]])
    try:
        with trusting(trust_of(others)):
            if (path / "sweep.json").exists():
                return [argv[0], *_sweep_arguments(path, others)]
            for argument in others:
                if argument in ("-m", "--multirun") or argument.lstrip("+~").startswith(("hydra.", "hydra/")):
                    raise ConfigError(f"{path} {argument}: only what a run itself has may change when it resumes")
            run = RunDirectory(path)
            config = run.resumed_config(keys_of(others))
    except (ConfigError, OSError) as error:
        print(f"error: resume={error}", file=sys.stderr)
        raise SystemExit(1) from error
    return [argv[0], *saved_arguments(run.path, config), override("resume", run.path.absolute()), *others]


def _sweep_arguments(sweep: Path, others: list[str]) -> list[str]:
    check_folder(sweep)
    flags = [argument for argument in others if argument.startswith("-")]
    typed = {*keys_of(others), *(flag.partition("=")[0] for flag in flags)}
    saved = check_arguments(SweepDirectory(sweep).manifest()["arguments"], sweep / "sweep.json", typed)
    flags += [argument for argument in saved if argument.startswith("-")]
    overrides = [*saved, override("hydra.sweep.dir", sweep.absolute()), *others]
    overrides = [argument for argument in overrides if argument not in flags]
    # Hydra does not let a config group be chosen twice.
    last = {override.partition("=")[0]: override for override in overrides}
    return [*flags, *last.values()]
