"""Each command line in README.md and docs composes: no renamed key, no quotes that a shell or Hydra takes away."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from PIL import Image
from sklearn.datasets import load_digits

from commands import REPOSITORY, call_command, train_quickly
from vae.paths import CONF

CONFIGS = {
    "train.py": "train",
    "vae.evaluate": "evaluate",
    "vae.sample": "sample",
    "vae.features": "features",
    "vae.reproduce": "reproduce",
    "vae.baselines": "baselines",
    "vae.table": "table",
    "vae.export": "export",
}

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


def documented_commands() -> list[str]:
    """All that begin with python, in code blocks and between backquotes."""
    found = []
    for page in PAGES:
        text = page.read_text().replace("\\\n", " ")
        commands = re.findall(
            r"(?:^|`)(?:[A-Z_]+=\S+ )*python (?:-m )?((?:train\.py|vae\.\w+)\b[^`\n]*)", text, re.MULTILINE
        )
        found += [f"{page.name}: {command}" for command in commands]
    return found


def overrides_of(command: str) -> list[str]:
    """Its arguments without flags; what the reader is to fill in stands for a word."""
    program, *arguments = shlex.split(re.sub(r"…|<[^>]*>", "x", command), comments=True)
    if program == "vae.evaluate":
        # Of a sweep: no key, and read before Hydra is asked.
        arguments = [re.sub(r"^sweep=", "run=", argument) for argument in arguments]
    return [argument for argument in arguments if not argument.startswith("-") and "=" in argument]


@pytest.mark.parametrize("documented", sorted(set(documented_commands())))
def test_a_documented_command_composes(documented: str) -> None:
    command = documented.partition(": ")[2]
    program = command.split()[0]
    if program not in CONFIGS:
        pytest.skip(f"{program} is no Hydra command")
    first = []
    for override in OverridesParser.create().parse_overrides(overrides_of(command)):
        if override.is_sweep_override() and override.is_choice_sweep():
            first.append(f"{override.get_key_element()}={next(override.sweep_string_iterator())}")
        elif not override.is_sweep_override():
            first.append(override.input_line)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        compose(CONFIGS[program], [line for line in first if line is not None])


ELSEWHERE = ("attribute=", "data=", "trainer.devices", "trust=", "label=")
"""In commands that need other images or runs, several processes or a package of one's own: elsewhere tested."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run below runs/, and with images of the size of its."""
    folder = tmp_path_factory.mktemp("typed")
    train_quickly(folder / "runs" / "digits" / "first", "latent_size=2")
    (folder / "mine").mkdir()
    for number, name in enumerate(("a.png", "b.png", "mine/c.png")):
        Image.fromarray((load_digits().images[number] * 15.9).astype("uint8")).save(folder / name)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "documented",
    [
        line
        for line in sorted(set(documented_commands()))
        if re.search(r": vae\.(sample|evaluate) run=", line) and not any(part in line for part in ELSEWHERE)
    ],
)
def test_a_documented_command_runs_as_it_is_typed(documented: str, folder: Path) -> None:
    program, *arguments = shlex.split(documented.partition(": ")[2], comments=True)
    typed = [re.sub(r"^run=.*", "run=last", argument) for argument in arguments]
    cheap = ["k=5", "metric=default"] if program == "vae.evaluate" else ["steps=3"]
    done = call_command(program, *typed, *cheap, folder=folder)
    assert done.returncode == 0, done.stderr
    files = [line for line in done.stdout.splitlines() if line.startswith("runs/")]
    assert files
    assert all((folder / file).exists() for file in files)


@pytest.mark.slow
def test_the_first_evening_goes_on_from_one_command_to_the_next(tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "first_evening.md").read_text()
    commands = re.findall(r"^```\npython (?:-m )?(.+)\n```", text, re.MULTILINE)
    assert len(commands) == 10
    for command in commands:
        program, *arguments = shlex.split(command)
        if program == "train.py":
            # MNIST's model, too, is one of digits here.
            quick = ["data=digits", "trainer.max_epochs=1", "network.hidden_sizes=[16]", "logger=csv"]
            done = call_command("vae.train", *arguments, *quick, folder=tmp_path)
        else:
            done = call_command(program, *arguments, folder=tmp_path)
        assert done.returncode == 0, (command, done.stderr)
    assert len(list(tmp_path.glob("runs/*/*/run.html"))) >= 5
    assert len(list(tmp_path.glob("runs/digits/sweep_*/report.html"))) == 1


GLOBS = "[]*?"
"""What zsh, the shell of macOS, takes for a pattern of file names, and refuses the command where there is none."""


def bare(command: str) -> str:
    """A command without what is in quotes, and without the comment behind it."""
    return re.sub(r"\s#\s.*", "", re.sub(r"'[^']*'|\"[^\"]*\"", "", command))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_shell_would_expand_is_in_quotes(page: Path) -> None:
    text = page.read_text().replace("\\\n", " ")
    blocks = re.findall(r"^```(?:bash|sh|)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    lines += [" ".join(code.split()) for code in re.findall(r"(?<!`)`([^`]+)`(?!`)", text)]
    program = r"(?:[A-Z_]+=\S+ )*(?:python|pip|make|uvx|pipx|vae-\w+)\b"
    commands = [line for line in lines if re.match(program, line)]
    assert [command for command in commands if any(c in bare(command) for c in GLOBS)] == []


def test_the_check_of_quotes_can_fail() -> None:
    assert "[" in bare("python train.py network.hidden_sizes=[64] # [a comment]")
    assert "[" not in bare("python train.py 'network.hidden_sizes=[64]' # [a comment]")


def test_there_are_documented_commands() -> None:
    assert len(documented_commands()) > 30
    assert {Path(command.split()[1]).name for command in documented_commands()} >= set(CONFIGS)
