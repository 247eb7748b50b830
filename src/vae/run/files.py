"""Small files that others read while they are written."""

import json
import math
import os
from pathlib import Path
from typing import Any

from vae.checks import ConfigError


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that a reader, or a power cut, finds the old one or the new one and never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def to_json(value: Any, indent: int | None = None) -> str:
    """JSON of plain data, with null for what is not a finite number, of which JSON has none."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any] | None:
    """The contents of a JSON file, an object; None if there is no such file.

    Raises:
        ConfigError: it is damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: a damaged file ({' '.join(str(error).split())})") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path}: a damaged file (it holds no object)")
    return content
