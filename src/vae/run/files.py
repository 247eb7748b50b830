"""Small files that others read while they are written."""

import json
import os
from pathlib import Path
from typing import Any

from vae.checks import ConfigError


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a power cut, finds the old one or the new one and never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def read_json(path: Path) -> dict[str, Any] | None:
    """The contents of a JSON file, an object; None if there is no such file.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: a damaged file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a damaged file (it holds no object)")
    return content
