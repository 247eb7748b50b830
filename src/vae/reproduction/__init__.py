"""Published tables: their contents, the runs for their cells, and our numbers beside theirs."""
