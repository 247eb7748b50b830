"""How a command behaves: its errors, its signals, its processes."""
