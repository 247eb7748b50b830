"""Posteriors: from features to q(z|x), as a torch distribution over z."""
