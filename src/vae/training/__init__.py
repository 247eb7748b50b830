"""Training: from a composed config to a trained model."""
