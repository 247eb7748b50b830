"""A project of one's own beside this one: `python -m vae.new my_project`."""
