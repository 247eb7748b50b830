"""The command `python -m vae.diff`."""
