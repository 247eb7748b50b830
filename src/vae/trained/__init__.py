"""What `load_model` gives."""
