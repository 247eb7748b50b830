"""The error handling that is common to all sets that torchvision can download."""

from collections.abc import Iterator
from contextlib import contextmanager

from vae.checks import ConfigError


@contextmanager
def download_or_say(where: str, advice: str) -> Iterator[None]:
    """Turn any error inside into a message that says where the files belong and how to get them.

    Args:
        where: the config key and the folder.
        advice: which files to get and where to put them.

    Raises:
        ConfigError: the download failed.
    """
    try:
        yield
    except Exception as error:  # networks, archives and quotas have many error types with one meaning
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise ConfigError(f"{where}: files are missing and the download failed ({why}); {advice}") from error
