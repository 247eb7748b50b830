"""What the commands share: composing with Hydra, and one clear line for whatever goes wrong."""

import functools
import io
import logging
import os
import re
import secrets
import shlex
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

from vae.command.interruption import Interrupted, interrupted_in_one_line, signals_interrupt

# A second or more on a busy machine, in which somebody may think better of it.
with interrupted_in_one_line():
    import hydra
    from hydra._internal import utils as hydra_utils
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode
    from omegaconf import DictConfig, OmegaConf

    from vae.checks import ConfigError
    from vae.command.distributed import RERUN
    from vae.command.error_line import FULL_ERROR, WANTS_TRACEBACK, error_line, flag_hint
    from vae.command.output import output_may_end
    from vae.command.override import override, quoted
    from vae.command.schema import check_composed
    from vae.internals import before_the_folder_is_made
    from vae.paths import CONF, TRAIN
    from vae.progress import shown
    from vae.run.trust import trusting


def short_id() -> str:
    """Six characters that tell runs apart, and that no reader of YAML takes for a number, as it does 99e140."""
    return secrets.choice("abcdef") + secrets.token_hex(3)[1:]


OmegaConf.register_new_resolver("short_id", short_id, use_cache=True, replace=True)


def _is_first_rank() -> bool:
    return all(os.environ.get(name, "0") == "0" for name in ("SLURM_PROCID", "RANK", "LOCAL_RANK"))


def _for_data(name: str) -> str:
    """Return the file under conf/for_data of a set of images, or `any` where there is none."""
    return name if name in GlobalHydra.instance().config_loader().get_group_options("for_data") else "any"


OmegaConf.register_new_resolver("for_data", _for_data, replace=True)

# OpenMP's threads that wait for one another sleep. By default they spin, and where other programs want the cores
# as well, a step of the digits takes two threads a hundred times as long as one. Read when torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # in small letters: a Turkish libgomp knows no other I

# They are, and should be: conf/hydra says what is sensible here, of what a plugin's schema allows.
warnings.filterwarnings(
    "ignore", message=r"\s*'hydra/(launcher|sweeper)/\w+' is validated against ConfigStore schema"
)


OF_NO_NAME = (
    *("name=", "data=", "paths.", "hydra", "logger", "callback", "open=", "trust=", "threads=", "overwrite="),
    *("trainer.accelerator=", "trainer.devices=", "trainer.strategy="),
)
"""How overrides begin that do not stand in a run's name: they are in it anyway, or change no number."""


def _run_name(name: str) -> str:
    """Return what a run is called where runs are listed: its name, and what was typed that makes it another
    than most.
    """
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    varied = [each for each in typed if not each.lstrip("+~").startswith(OF_NO_NAME)]
    return " ".join([name, *varied])[:128]


OmegaConf.register_new_resolver("run_name", _run_name, replace=True)

Task = Callable[[DictConfig], float | None]


def command(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Make a function of a composed config a command, as `hydra.main` does, whose errors are one line.

    Whatever goes wrong, a misspelled key or an exception within, is one line on stderr and exit status 1;
    the environment variable HYDRA_FULL_ERROR=1 brings the traceback instead.
    """

    def decorate(given: Task) -> Callable[[], None]:
        @functools.wraps(given)
        def task(config: DictConfig) -> float | None:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                check_composed(config, config_name)  # a single run's has been checked before it had a folder
            with trusting(config.get("trust") or ()):
                return showing(config)

        def showing(config: DictConfig) -> float | None:
            # What other commands print on stdout is for programs, too; those that reproduce starts show their own.
            if not _is_first_rank() or config_name == "reproduce":
                return given(config)
            with shown(sys.stdout if config_name == "train" else None):
                return given(config)

        @functools.wraps(given)
        def job(config: DictConfig) -> float | None:
            quiet_libraries()
            if WANTS_TRACEBACK or HydraConfig.get().mode == RunMode.MULTIRUN:
                # A sweep keeps the errors of its jobs itself.
                return task(config)
            # Left to Hydra, an error would print a second line, with the overrides.
            with _ends_in_one_line(config_name, lambda: how_to_go_on(config)), signals_interrupt():
                return task(config)

        main = hydra.main(version_base="1.3", config_path=str(CONF), config_name=config_name)(job)

        check = functools.partial(check_composed, command=config_name)

        @functools.wraps(given)
        def run() -> None:
            if isinstance(sys.stdout, io.TextIOWrapper):
                sys.stdout.reconfigure(errors="backslashreplace")  # as stderr: not every terminal has a σ
            sys.argv = [at_home(argument) for argument in flags_first(sys.argv)]
            if WANTS_TRACEBACK:
                with before_the_folder_is_made(check):
                    return main()
            with (
                output_may_end(),
                _ends_in_one_line(config_name, lambda: "nothing was saved"),
                signals_interrupt(),
            ):
                check_flags(sys.argv[1:], config_name)
                with _exceptions_come_through(), before_the_folder_is_made(check):
                    return main()

        return run

    return decorate


def quiet_libraries() -> None:
    """Silence what libraries say at every run, and their warnings that do not apply here; all others are shown."""
    os.environ.setdefault("WANDB_SILENT", "true")
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.distributed", "matplotlib"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in (
        "`isinstance\\(treespec, LeafSpec\\)` is deprecated",  # Lightning's own use of torch
        "The number of training batches .* is smaller than the logging interval",  # we log at epoch ends too
        "The '.*_dataloader' does not have many workers",  # batches are slices of memory; workers only cost
        "The `srun` command is available on your system but is not used",  # ranks of one node need none
        "The ``compute`` method of metric .* was called before",  # a rank that had no batch of its own
        r"`ModelCheckpoint\(monitor=.*` could not find the monitored key",  # of a run that has not been validated
        "Checkpoint directory .* exists and is not empty",  # it is the run that is being resumed
        "The dirpath has changed from",  # it was moved, or is a trial of data.batch_size=auto
        "Found .* module\\(s\\) in eval mode at the start of training",  # fit_prior_to keeps them as they are
        "Be aware that when using `ckpt_path`, callbacks used to create",  # one that the user has taken away
    ):
        warnings.filterwarnings("ignore", message=message)


def fail(error: Exception, config_name: str) -> int:
    """Print the line of an error; the exit status."""
    print(error_line(error, sys.argv[1:], config_name), file=sys.stderr)
    return 1


@contextmanager
def _ends_in_one_line(config_name: str, what_now: Callable[[], str]) -> Iterator[None]:
    """Inside, an error is one line and exit status 1; a signal is one, too, with what is left and how to go on."""
    try:
        yield
    except Interrupted as signal:
        signal.say(what_now())
        raise
    except Exception as error:
        raise SystemExit(fail(error, config_name)) from error


@contextmanager
def _exceptions_come_through() -> Iterator[None]:
    """Have Hydra raise what it would otherwise print in several lines, and exit.

    So does HYDRA_FULL_ERROR=1, but also in every process that starts from here: ranks, a launcher's workers and
    further commands would not end with one line. So it only seems set, to Hydra (1.3) in this process.
    """
    is_set = hydra_utils._is_env_set
    hydra_utils._is_env_set = lambda name: name == FULL_ERROR or is_set(name)
    try:
        yield
    finally:
        hydra_utils._is_env_set = is_set


TAKES_A_VALUE = {
    "-c": "--cfg",
    "-p": "--package",
    "-i": "--info",
    "-cd": "--config-dir",
    "-cn": "--config-name",
    "-cp": "--config-path",
    "--experimental-rerun": "--experimental-rerun",
}
"""Hydra's flags that another word may follow."""
STAND_ALONE = (
    *("-m", "--multirun", "-r", "--run", "-h", "--help", "--hydra-help", "--version", "--resolve"),
    *("-sc", "--shell-completion"),
)
"""Hydra's other flags."""


def flags_first(argv: list[str]) -> list[str]:
    """Return the same with all flags in front, as argparse (3.11) takes no overrides both before and after a
    flag.
    """
    words, known = one_word_flags(argv[1:]), {*STAND_ALONE, *TAKES_A_VALUE.values()}
    flags = list(dict.fromkeys(word for word in words if word.partition("=")[0] in known))
    return [argv[0], *flags, *(word for word in words if word not in flags)]


def one_word_flags(arguments: Sequence[str]) -> list[str]:
    """Return the same with each flag and its value as one word: `--config-dir=X` for `--config-dir X` and `-cd
    X`.
    """
    found: list[str] = []
    waiting = ""
    for argument in arguments:
        # --info may stand alone, too.
        if waiting and not (waiting == "--info" and ("=" in argument or argument.startswith("-"))):
            found[-1] = f"{waiting}={argument}"
            waiting = ""
            continue
        flag, equals, value = argument.partition("=")
        long = TAKES_A_VALUE.get(flag, flag)
        waiting = long if long in TAKES_A_VALUE.values() and not equals else ""
        found.append(f"{long}{equals}{value}" if argument.startswith("-") else argument)
    return found


HOME = re.compile(r"(?<=[=,\[])~[\w.-]*(?=[/,\]]|$)[^,\]]*")


def at_home(argument: str) -> str:
    """Return the same with `~` and `~user` as homes at the beginning of a value, where neither shell nor Hydra
    looks.
    """

    def home(match: re.Match[str]) -> str:
        path = os.path.expanduser(match[0])
        return path if path == match[0] or argument.startswith("-") else quoted(path)

    return HOME.sub(home, argument)


def check_flags(arguments: list[str], config_name: str) -> None:
    """Refuse what Hydra's parser would refuse in several lines.

    Raises:
        ConfigError: there is no such flag, or it lacks its value.
    """

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}{flag_hint(arguments, config_name) or ' (--help lists what there is)'}")

    parser = hydra_utils.get_args_parser()
    parser.error = refuse  # type: ignore[method-assign]
    parser.parse_args(arguments)


def how_to_go_on(config: DictConfig) -> str:
    """Return what to type after an interruption."""
    run = OmegaConf.select(config, "paths.run")
    saved = run is not None and Path(run, ".hydra", "config.yaml").is_file()
    return f"{TRAIN} {shlex.quote(f'resume={run}')} goes on" if saved else "nothing was saved"


def quote_argument(argv: list[str], key: str, lists: bool = False) -> list[str]:
    """Put the value of `key=value` in quotes, so that Hydra takes any path, with commas or = in it, as it is.

    Args:
        argv: the command line.
        key: the key.
        lists: whether `key=[a,b]`, where no file has that name, is a list, each of whose values is put in quotes.
    """
    start = f"{key}="

    def in_quotes(argument: str) -> str:
        value = argument.removeprefix(start)
        if value == argument or value[:1] in ("'", '"'):
            return argument
        if lists and value.startswith("[") and value.endswith("]") and not os.path.exists(value):
            paths = (path.strip(" '\"") for path in value[1:-1].split(","))
            return f"{start}[{','.join(quoted(os.path.expanduser(path)) for path in paths)}]"
        return override(key, os.path.expanduser(value))

    return [in_quotes(argument) for argument in argv]


def keys_of(arguments: Iterable[str]) -> set[str]:
    """Return the keys that arguments give a value to."""
    return {argument.lstrip("+~").partition("=")[0] for argument in arguments if not argument.startswith("-")}


def trust_of(arguments: Iterable[str]) -> list[str]:
    """Return the packages that arguments of a command trust, before Hydra has read these."""
    given = [
        argument.lstrip("+").partition("=")[2]
        for argument in arguments
        if argument.lstrip("+").startswith("trust=")
    ]
    return [name for each in given[-1:] for name in re.split(r"[\s,]+", each.strip("[] '\"")) if name]


_typed: str | None = None


def note_typed(argv: Sequence[str]) -> None:
    """Remember the command line as it was typed, before what it stands for takes its place."""
    global _typed
    is_ours = any(argument.startswith(f"{RERUN}=") for argument in argv)
    _typed = None if is_ours else " ".join([TRAIN, *map(shlex.quote, argv[1:])])


def typed_command() -> str | None:
    """Return the command line as it was typed; None in a sweep, whose jobs have others, and in what a command
    started.
    """
    is_sweep = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
    return None if is_sweep else _typed


def what_resumes() -> set[str] | None:
    """Return the keys that somebody typed behind `resume=<run>`; None if the present job was not started so."""
    typed = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    return keys_of(typed) if keys_of(typed) >= {"resume"} and HydraConfig.get().mode == RunMode.RUN else None
