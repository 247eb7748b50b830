"""Published tables: what they hold, the runs of their cells, and ours beside theirs."""
