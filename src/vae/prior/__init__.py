"""Priors: p(z), as a torch distribution over z."""
