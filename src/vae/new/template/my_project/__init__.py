"""Parts of my own for vae."""
