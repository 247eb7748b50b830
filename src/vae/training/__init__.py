"""From a composed config to a trained model."""
