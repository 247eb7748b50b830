"""The command `python -m vae.table`; in Python, `vae.table(…)` is `vae.sweep.table.table`."""
