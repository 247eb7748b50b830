"""The evaluation of a trained run, and the presentation of its results."""
