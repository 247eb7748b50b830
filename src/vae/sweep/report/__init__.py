"""The report of a sweep: a table, and a page to look at."""
