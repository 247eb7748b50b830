"""Measuring a trained run, and telling what was measured."""
