"""`python -m vae.new my_project`: a package with a likelihood of its own, to be trained, tested and shared."""

import keyword
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from vae.checks import ConfigError
from vae.paths import TRAIN

TEMPLATE = Path(__file__).parent / "template"
NAME = "my_project"
"""What the template is called, in its files and in their names."""


def create(name: str, folder: Path) -> Path:
    """Write a project into `folder/name`, which is returned.

    Args:
        name: of the project and of its package.
        folder: where to put it.

    Raises:
        ConfigError: the name is none for a package, another package has it, or there is something of that name.
    """
    if not name.isidentifier() or keyword.iskeyword(name) or not name.isascii():
        raise ConfigError(f"{name}: a package's name has letters, digits and _ in it, as in my_project")
    project = folder / name
    if project.exists():
        raise ConfigError(f"{project}: there is something of that name already")
    if find_spec(name) is not None:
        raise ConfigError(f"{name}: is the name of a package that is installed; choose another")
    for source in sorted(TEMPLATE.rglob("*")):
        if source.is_file() and source.suffix in (".py", ".yaml", ".toml", ".md"):
            target = project / str(source.relative_to(TEMPLATE)).replace(NAME, name)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(source.read_text(encoding="utf-8").replace(NAME, name), encoding="utf-8")
            shutil.copymode(source, target)
    return project


def main() -> None:
    """Run the command."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        print("usage: python -m vae.new my_project", file=sys.stderr)
        raise SystemExit(1)
    try:
        project = create(sys.argv[1], Path.cwd())
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    print(f"{project}: a likelihood, its config, a test and an experiment; then, in that folder,")
    print("  pip install -e .")
    print("  python -m pytest")
    print(f"  {TRAIN.replace('python train.py', 'vae-train')} --config-dir=conf experiment=laplace")


if __name__ == "__main__":
    main()
