"""The behaviour of a command: its errors, its signals, its processes."""
