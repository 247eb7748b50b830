"""The command `python -m vae.sweep.report`."""

import sys

from vae.sweep.report.page import main

sys.exit(main(sys.argv[1:]))
