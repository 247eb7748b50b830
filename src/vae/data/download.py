"""What all sets do that torchvision can download."""

from collections.abc import Iterator
from contextlib import contextmanager

from vae.checks import ConfigError


@contextmanager
def download_or_say(where: str, advice: str) -> Iterator[None]:
    """Turn whatever goes wrong inside into a line on where the files were looked for, and which to put there.

    Args:
        where: the key and the folder.
        advice: which files to get and where to put them.

    Raises:
        ConfigError: the download failed.
    """
    try:
        yield
    except Exception as error:  # networks, archives and quotas fail with many types, which all mean the same
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{where}: files are missing and the download failed ({why}); {advice}") from error
