"""Likelihoods: from the decoder's output to p(x|z), as a torch distribution over x."""
