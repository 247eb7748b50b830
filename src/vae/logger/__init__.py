"""Loggers, which store the numbers of a run."""
