"""What happens beside training: checkpoints, pictures, progress."""
