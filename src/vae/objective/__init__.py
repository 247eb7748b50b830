"""Objectives: from terms to the loss to minimise, and the schedules of its weights."""
