"""Many runs from one command: what they are, running them, and what came of them."""
