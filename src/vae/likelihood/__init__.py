"""Decoder output → p(x|z), as a torch distribution over x."""
