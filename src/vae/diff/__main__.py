"""How two runs differ: python -m vae.diff RUN RUN: configs, origins, images and numbers, side by side."""

import sys

from vae.checks import ConfigError


def main() -> None:
    """Run the command."""
    if len(sys.argv) != 3 or any(argument.startswith("-") for argument in sys.argv[1:]):
        print("usage: python -m vae.diff RUN RUN", file=sys.stderr)
        raise SystemExit(1)
    from vae.run.difference import differences
    from vae.run.directory import RunDirectory

    try:
        rows = differences(*(RunDirectory(argument) for argument in sys.argv[1:]))
    except (ConfigError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from error
    widths = [max(len(row[place]) for row in rows) for place in range(4)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
