"""Each command line in README.md and docs composes: no renamed key, no quotes that a shell or Hydra takes away."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from commands import REPOSITORY
from vae.paths import CONF

CONFIGS = {
    "train.py": "train",
    "vae.evaluate": "evaluate",
    "vae.sample": "sample",
    "vae.features": "features",
    "vae.reproduce": "reproduce",
    "vae.baselines": "baselines",
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
    _, *arguments = shlex.split(re.sub(r"…|<[^>]*>", "x", command), comments=True)
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
