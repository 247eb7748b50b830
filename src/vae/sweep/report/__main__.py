"""The command `python -m vae.sweep.report`."""

import sys

from vae.sweep.report import write


def main() -> None:
    """Write the report of a sweep."""
    sys.exit(write.main(sys.argv[1:]))


if __name__ == "__main__":
    main()
