"""Pictures: images of a model side by side, and how they are drawn."""
