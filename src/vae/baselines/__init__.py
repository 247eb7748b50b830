"""What needs no network: exact log-likelihoods of classical models on the same images."""
