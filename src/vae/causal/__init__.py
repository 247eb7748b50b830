"""Causal networks: maps of values → maps of outputs, each of which depends on the values before it alone."""
