"""Sweeps: many runs from one command, how they are planned and run, and their results."""
